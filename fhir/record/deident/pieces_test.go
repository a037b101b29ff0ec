package deident

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
)

// keeper is what somebody keeps of a release between its pieces.
type keeper map[fhir.Ref]Member

func (k keeper) Admit(context.Context, fhir.Ref, fhir.ID) error { return errors.New("nobody admits") }

func (k keeper) Member(_ context.Context, r fhir.Ref) (Member, bool, error) {
	m, ok := k[r]
	return m, ok, nil
}

// pieces makes a release in pages of three, each by a Release of its own.
func pieces(t *testing.T, x *trial, change func(stored) stored, in ...stored) (out []string, report Report, errs []error) {
	t.Helper()
	ctx := context.Background()
	members, tally := keeper{}, NewTally(MinK)
	config := x.config
	config.Surrogates = members
	pages := func(each func(int, []vault.Sealed)) {
		for i := 0; i < len(in); i += 3 {
			var page []vault.Sealed
			for _, s := range in[i:min(i+3, len(in))] {
				page = append(page, s.seal(t, x.grants))
			}
			each(i, page)
		}
	}
	pages(func(_ int, page []vault.Sealed) {
		r, err := Begin(x.release.Profile(), config)
		if err != nil {
			t.Fatal(err)
		}
		found, part, err := r.Examine(ctx, page...)
		if err != nil {
			t.Fatal(err)
		}
		report.Add(part)
		for _, f := range found {
			// Which surrogate it is does not matter here: it is that of the whole, so that both can be compared.
			m, _, _ := x.config.Surrogates.Member(ctx, f.Ref)
			members[f.Ref] = Member{ID: m.ID, Patient: f.Patient, Counted: f.Counted}
			if f.Patient != "" {
				tally.Patient(f.Patient, f.Like)
			}
			for range 2 { // a page may be done twice
				for _, c := range f.Cells {
					tally.Cell(c, f.Patient)
				}
			}
		}
	})
	var verdict Verdict
	verdict, report.Determined = tally.Settle()
	for i, s := range in {
		if change != nil {
			in[i] = change(s)
		}
	}
	pages(func(_ int, page []vault.Sealed) {
		r, err := Resume(x.release.Profile(), config, verdict)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range page {
			d, ok, err := r.Transform(ctx, s)
			errs = append(errs, err)
			var b bytes.Buffer
			if ok {
				err = r.NDJSON(&b).Put(d)
			}
			if err != nil && !errors.Is(err, ErrChanged) {
				t.Fatal(err)
			}
			out = append(out, b.String())
		}
	})
	return out, report, errs
}

// What is made in pieces is what is made at once.
func TestPiecesMakeTheSameRelease(t *testing.T) {
	patients := func() []stored {
		in := append(crowd(0, 12, "'gender':'female','birthDate':'1984-05-06'", "F32.9"), crowd(100, 4, "'gender':'male'", "F20.0")...)
		in = append(in, crowd(200, 7, "'gender':'other'", "F20.0")...)
		return append(in, stored{body: "{'resourceType':'Practitioner','id':'dora','name':[{'text':'Dora'}]}"}, stored{patient: "p1", labels: notes, body: "{'resourceType':'Condition','id':'note','subject':{'reference':'Patient/p1'}}"})
	}
	for _, name := range []string{"safe-harbor", "limited-data-set", "expert-determination"} {
		x := newTrial(t, name, func(c *Config) {
			if c.Expert != nil {
				determined(Gender)(c)
			}
		})
		var want []string
		for _, n := range x.run(patients()...) {
			line := ""
			if n != nil {
				line = string(n.AppendJSON(nil)) + "\n"
			}
			want = append(want, line)
		}
		got, report, _ := pieces(t, x, nil, patients()...)
		if strings.Join(got, "-") != strings.Join(want, "-") || len(got) != 48 {
			t.Errorf("%s in pieces\n%s\nat once\n%s", name, got, want)
		}
		if name != "expert-determination" {
			report.Determined = nil
		}
		if a, b := fmt.Sprintf("%+v %+v", report.LeftOut, report.Determined), fmt.Sprintf("%+v %+v", x.report.LeftOut, x.report.Determined); a != b || report.Members != x.report.Members {
			t.Errorf("%s: reported in pieces %s, at once %s", name, a, b)
		}
	}
}

// What is no longer what was counted is not released: k and the least count would not hold.
func TestAChangeAfterTheSurveyIsSeen(t *testing.T) {
	for what, c := range map[string]struct {
		profile, from, to string
		want              int
	}{
		"a quasi-identifier": {"expert-determination", "'gender':'female'", "'gender':'male'", 12},
		"a code":             {"expert-determination", "F32.9", "F33.0", 12},
		"whose it is":        {"safe-harbor", "", "", 12},
		"nothing":            {"expert-determination", "'nothing'", "", 0},
		"a date":             {"expert-determination", "2024-03-05", "2024-03-07", 0}, // it is not counted
		"a gender":           {"safe-harbor", "'gender':'female'", "'gender':'male'", 0},
	} {
		x := newTrial(t, c.profile, func(y *Config) {
			if y.Expert != nil {
				determined(Gender)(y)
			}
		})
		in := crowd(0, 12, "'gender':'female'", "F32.9")
		x.run(in...)
		_, _, errs := pieces(t, x, func(s stored) stored {
			s.body = swap(s.body, c.from, c.to)
			if c.from == "" && s.patient != "" {
				s.patient = "p99"
			}
			return s
		}, in...)
		changed := 0
		for _, err := range errs {
			if errors.Is(err, ErrChanged) {
				changed++
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if changed != c.want {
			t.Errorf("%s: %d resources changed, want %d", what, changed, c.want)
		}
	}
}

func swap(text, from, to string) string {
	if from == "" {
		return text
	}
	return strings.ReplaceAll(text, from, to)
}
