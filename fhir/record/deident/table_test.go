package deident

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/deident/canary"
	"github.com/cloister-health/cloister/fhir/view"
	"github.com/cloister-health/cloister/fhir/view/clinical"
	"github.com/cloister-health/cloister/fhir/view/tabular"
)

// lines keeps the rows of a table as text.
type lines []string

func (l *lines) Write(r view.Row) error {
	cells := make([]string, len(r))
	for i, x := range r {
		if cells[i] = "-"; len(x) > 0 {
			cells[i] = strings.ReplaceAll(strings.Join(x, ","), " ", "+")
		}
	}
	*l = append(*l, strings.Join(cells, " "))
	return nil
}

// made is what a trial releases, in the order of the release.
func (x *trial) made(in ...stored) []Deidentified {
	x.t.Helper()
	x.run(in...)
	var out []Deidentified
	for _, s := range in {
		d, ok, err := x.release.Transform(context.Background(), s.seal(x.t, x.grants))
		if err != nil {
			x.t.Fatal(err)
		}
		if ok {
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(a, b Deidentified) int { return strings.Compare(string(a.ref.ID), string(b.ref.ID)) })
	return out
}

// table is the rows of a view, with the stored ids in the place of those of the release, sorted.
func (x *trial) table(v *view.View, ds []Deidentified) []string {
	x.t.Helper()
	var l lines
	table := NewTable(v, &l)
	for _, d := range ds {
		if err := x.release.Tabulate(context.Background(), d, table); err != nil {
			x.t.Fatal(err)
		}
	}
	if !slices.IsSorted(l) || table.Count() != len(l) {
		x.t.Errorf("%d rows are not in the order of their keys: %v", table.Count(), l)
	}
	kept, ok := x.config.Surrogates.(*Random)
	if !ok {
		x.t.Fatal("the surrogates are kept elsewhere")
	}
	for ref, m := range kept.members {
		for i := range l {
			l[i] = strings.ReplaceAll(l[i], string(m.ID), string(ref.ID))
		}
	}
	slices.Sort(l)
	return l
}

// chart is a patient as the sample clinic has them: what happened, and in which words.
var chart = []stored{
	{body: `{'resourceType':'Patient','id':'pat','active':true,'name':[{'family':'Bergstrom','given':['Nora']}],'telecom':[{'system':'phone','value':'+1-555-0117'}],
		'gender':'female','birthDate':'1991-10-18','address':[{'use':'home','line':['12 Elm Street'],'city':'Springfield','state':'MA','postalCode':'01103','country':'US'}],
		'communication':[{'language':{'coding':[{'system':'urn:ietf:bcp:47','code':'en-US','display':'English'}],'text':'English'},'preferred':true}]}`},
	{patient: "pat", body: `{'resourceType':'Condition','id':'con','clinicalStatus':{'coding':[{'system':'http://terminology.hl7.org/CodeSystem/condition-clinical','code':'active'}]},
		'verificationStatus':{'coding':[{'system':'http://terminology.hl7.org/CodeSystem/condition-ver-status','code':'confirmed'}]},
		'category':[{'coding':[{'system':'http://terminology.hl7.org/CodeSystem/condition-category','code':'problem-list-item'}]}],
		'code':{'coding':[{'system':'http://hl7.org/fhir/sid/icd-10-cm','code':'F33.1','display':'Recurrent depression, moderate'}],'text':'Depression of Nora'},
		'subject':{'reference':'Patient/pat'},'encounter':{'reference':'Encounter/enc'},'onsetDateTime':'2023-11-02','recordedDate':'2024-03-05T10:15:00Z'}`},
	{patient: "pat", body: `{'resourceType':'Appointment','id':'app','status':'fulfilled','serviceType':[{'coding':[{'system':'http://snomed.info/sct','code':'390906007'}]}],
		'description':'Session with Ann Lee','start':'2024-03-05T10:15:00Z','end':'2024-03-05T11:05:00Z','minutesDuration':50,'created':'2024-02-14T10:15:00Z','comment':'Booked by the front desk',
		'participant':[{'actor':{'reference':'Patient/pat'},'status':'accepted'}]}`},
	{patient: "pat", body: `{'resourceType':'Appointment','id':'gone','status':'noshow','start':'2024-06-05T10:15:00Z','end':'2024-06-05T11:05:00Z','participant':[{'actor':{'reference':'Patient/pat'},'status':'accepted'}]}`},
	{patient: "pat", body: `{'resourceType':'Encounter','id':'enc','status':'finished','class':{'system':'http://terminology.hl7.org/CodeSystem/v3-ActCode','code':'AMB'},
		'classHistory':[{'class':{'system':'http://terminology.hl7.org/CodeSystem/v3-ActCode','code':'IMP'},'period':{'start':'2024-03-01','end':'2024-03-05'}}],
		'type':[{'coding':[{'system':'http://snomed.info/sct','code':'18512000','display':'Individual session'}],'text':'Session'}],'subject':{'reference':'Patient/pat'},
		'appointment':[{'reference':'Appointment/app'}],'period':{'start':'2024-03-05T10:15:00Z','end':'2024-03-05T11:05:00Z'},'diagnosis':[{'condition':{'reference':'Condition/con'},'rank':1}],
		'serviceProvider':{'reference':'Organization/not-released'}}`},
	{patient: "pat", body: `{'resourceType':'QuestionnaireResponse','id':'res','questionnaire':'https://practice.example/phq-9','status':'completed','subject':{'reference':'Patient/pat'},
		'encounter':{'reference':'Encounter/enc'},'authored':'2024-03-05T10:05:00Z','author':{'reference':'Patient/pat'},
		'item':[{'linkId':'44250-9','answer':[{'valueCoding':{'system':'http://loinc.org','code':'LA6571-9'}}]},{'linkId':'44255-8','answer':[{'valueCoding':{'system':'http://loinc.org','code':'LA6569-3'}}]},
			{'linkId':'own-question','answer':[{'valueString':'Her sister Ann'}]},{'linkId':'44260-8','answer':[{'valueCoding':{'system':'http://loinc.org','code':'LA6568-5'}}]},{'linkId':'44261-6','answer':[{'valueInteger':17}]}]}`},
	{patient: "pat", body: `{'resourceType':'Observation','id':'obs','status':'final','code':` + loincScore + `,'subject':{'reference':'Patient/pat'},'encounter':{'reference':'Encounter/enc'},
		'effectiveDateTime':'2024-03-05T10:05:00Z','issued':'2024-03-05T10:05:00Z','valueQuantity':{'value':17,'unit':'score','system':'http://unitsofmeasure.org','code':'{score}'},
		'derivedFrom':[{'reference':'QuestionnaireResponse/res'}],'note':[{'text':'Nora said that her sister called'}]}`},
	{body: `{'resourceType':'Patient','id':'old','gender':'male','birthDate':'1930-01-01','deceasedBoolean':true}`},
}

func TestViewsOfARelease(t *testing.T) {
	want := map[string]map[string]string{
		"safe-harbor": {
			"patient":       "old male - - true - - - - - - -|pat female 1991 1990 - MA 011 US - en-US - -",
			"encounter":     "enc pat finished AMB http://snomed.info/sct 18512000 2024 2024 - con 1 app - - - -",
			"diagnosis":     "con pat enc 0 http://hl7.org/fhir/sid/icd-10-cm F33.1 problem-list-item active confirmed 2023 - 2024",
			"phq9_score":    "obs pat enc res final 2024 17 moderately+severe",
			"phq9_response": "res pat enc completed 2024 3 1 - - - - - - 0 17",
			"level_of_care": "enc pat - finished AMB outpatient 2024 2024 true|enc pat - finished IMP inpatient 2024 2024 false",
			"attendance":    "app pat fulfilled attended - 390906007 - 50 2024 -|gone pat noshow missed - - - - - -",
		},
		"limited-data-set": {
			"patient":    "old male 1930 1930 true - - - - - - -|pat female 1991 1990 - MA 01103 US - en-US - -",
			"phq9_score": "obs pat enc res final 2024-03-05T10:05:00Z 17 moderately+severe",
			"attendance": "app pat fulfilled attended - 390906007 2024-03-05T10:15:00Z 50 2024-02-14T10:15:00Z -|gone pat noshow missed - - 2024-06-05T10:15:00Z - - -",
		},
	}
	for name, views := range want {
		x := newTrial(t, name, func(c *Config) {
			c.Subjects = people{"pat": {Birth: "1991-10-18"}, "old": {Birth: "1930-01-01"}}
		})
		ds := x.made(chart...)
		if len(ds) != len(chart) {
			t.Fatalf("%d of %d are released: %v", len(ds), len(chart), x.report)
		}
		for _, v := range clinical.Views() {
			text, ok := views[v.Name()]
			if !ok && name == "safe-harbor" {
				t.Errorf("no table of %s", v.Name())
			}
			if got := strings.Join(x.table(v, ds), "|"); ok && got != text {
				t.Errorf("%s of %s:\n%s\nwant\n%s", v.Name(), name, got, text)
			}
		}
	}
}

// TestOnlyAReleaseIsTabulated tries what is no part of the release, and another order than its own.
func TestOnlyAReleaseIsTabulated(t *testing.T) {
	x, y := newTrial(t, "safe-harbor"), newTrial(t, "safe-harbor")
	ds, others := x.made(chart...), y.made(chart...)
	v, _ := clinical.Named("attendance")
	var l lines
	table := NewTable(v, &l)
	ctx := context.Background()
	if err := x.release.Tabulate(ctx, Deidentified{}, table); !errors.Is(err, errForeign) {
		t.Error(err)
	}
	for _, d := range others {
		if err := x.release.Tabulate(ctx, d, table); !errors.Is(err, errForeign) {
			t.Error(err)
		}
	}
	if len(l) != 0 {
		t.Errorf("rows were made: %v", l)
	}
	slices.Reverse(ds)
	var failed error
	for _, d := range ds {
		if err := x.release.Tabulate(ctx, d, table); err != nil {
			failed = err
		}
	}
	if !errors.Is(failed, errOrder) || len(l) != 1 {
		t.Errorf("the other way around: %v, %v", failed, l)
	}
}

// TestTablesDoNotLink makes two releases of the same records: no row has anything of its counterpart but the facts, and
// their order is not that of the store, nor one that the releases share.
func TestTablesDoNotLink(t *testing.T) {
	var in []stored
	for i := range 40 {
		in = append(in, stored{body: fmt.Sprintf(`{'resourceType':'Patient','id':'p%02d','birthDate':'%d-01-01'}`, i, 1950+i)})
	}
	v, _ := clinical.Named("patient")
	order := func() (years, keys []string) {
		x := newTrial(t, "safe-harbor")
		var l lines
		table := NewTable(v, &l)
		for _, d := range x.made(in...) {
			if err := x.release.Tabulate(context.Background(), d, table); err != nil {
				t.Fatal(err)
			}
		}
		for _, row := range l {
			f := strings.Fields(row)
			keys, years = append(keys, f[0]), append(years, f[2])
		}
		return years, keys
	}
	a, ka := order()
	b, kb := order()
	if len(a) != 40 || slices.Equal(a, b) || slices.IsSorted(a) {
		t.Errorf("the orders are\n%v\n%v", a, b)
	}
	for _, k := range ka {
		if slices.Contains(kb, k) {
			t.Errorf("%s is in both", k)
		}
	}
}

// everything is a view of all that a resource of a type has.
func everything(t *testing.T, rt fhir.ResourceType) *view.View {
	t.Helper()
	v, err := view.Parse([]byte(`{"resource":"` + string(rt) + `","select":[{"column":[{"name":"id","path":"id"},
		{"name":"all","path":"descendants().where(hasValue()).select(toString()).join('\n')"}]},
		{"forEachOrNull":"descendants().where(hasValue())","column":[{"name":"one","path":"$this.toString()"}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestD1_164_514_b_2_CanariesInTables plants a token in every place of every resource type that may be
// released, and looks for it in the bytes of CSV and Parquet files, and in what they hold.
func TestD1_164_514_b_2_CanariesInTables(t *testing.T) {
	cells := 0
	type made struct {
		x *trial
		d Deidentified
	}
	for _, rt := range Types() {
		views := []*view.View{everything(t, rt)}
		for _, v := range clinical.Views() {
			if v.Resource() == rt {
				views = append(views, v)
			}
		}
		var planted canary.Planted
		var released []made
		for variant := range canary.Variants(rt) {
			root, p := canary.Plant(rt, variant)
			x := newTrial(t, "safe-harbor")
			ds := x.made(stored{patient: "someone", body: string(root.AppendJSON(nil))})
			if len(ds) != 1 {
				t.Fatalf("%s, variant %d, is left out", rt, variant)
			}
			planted.Tokens, released = append(planted.Tokens, p.Tokens...), append(released, made{x, ds[0]})
		}
		for _, v := range views {
			files := map[string]*bytes.Buffer{}
			for _, f := range tabular.Formats() {
				files[f.Name] = &bytes.Buffer{}
				w, err := f.New(files[f.Name], v)
				if err != nil {
					t.Fatal(err)
				}
				for _, m := range released {
					if err := m.x.release.Tabulate(context.Background(), m.d, NewTable(v, w)); err != nil {
						t.Fatalf("%s: %v", rt, err)
					}
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
			}
			decoded, n := decode(t, files["parquet"].Bytes())
			cells += n
			for kind, text := range map[string]string{"CSV": files["csv"].String(), "Parquet": files["parquet"].String(), "decoded Parquet": decoded} {
				if got := canary.Survivors(&planted, text, kind != "Parquet"); len(got) > 0 || strings.Contains(strings.ToLower(text), "canary") {
					t.Errorf("%s: %v survive in %s", rt, got, kind)
				}
			}
		}
	}
	if cells < 5000 {
		t.Errorf("%d cells: this sweep is not what it says", cells)
	}
}

// decode gives all values of a Parquet file, with its metadata, statistics and indexes, and with the dictionaries of its columns,
// which can hold what no row has.
func decode(t *testing.T, file []byte) (text string, cells int) {
	t.Helper()
	f, err := parquet.OpenFile(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintln(&b, f.Metadata().KeyValueMetadata, f.Metadata().CreatedBy, f.Schema())
	for _, g := range f.Metadata().RowGroups {
		for _, c := range g.Columns {
			s := c.MetaData.Statistics
			fmt.Fprintf(&b, "%s %s %s %s %v %v\n", s.Min, s.Max, s.MinValue, s.MaxValue, c.MetaData.PathInSchema, c.MetaData.KeyValueMetadata)
		}
	}
	for _, g := range f.RowGroups() {
		for _, c := range g.ColumnChunks() {
			hidden(t, &b, c)
		}
		rows := g.Rows()
		buf := make([]parquet.Row, 64)
		for {
			n, err := rows.ReadRows(buf)
			for _, row := range buf[:n] {
				for _, v := range row {
					b.WriteString(v.String() + "\n")
					cells++
				}
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return b.String(), cells
}

// hidden writes what a column has beside its rows.
func hidden(t *testing.T, b *strings.Builder, c parquet.ColumnChunk) {
	t.Helper()
	index, err := c.ColumnIndex()
	if err != nil && !errors.Is(err, parquet.ErrMissingColumnIndex) {
		t.Fatal(err)
	}
	for i := 0; index != nil && i < index.NumPages(); i++ {
		fmt.Fprintln(b, index.MinValue(i), index.MaxValue(i))
	}
	pages := c.Pages()
	defer func() { _ = pages.Close() }()
	for {
		page, err := pages.ReadPage()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if d := page.Dictionary(); d != nil {
			for i := range int32(d.Len()) {
				fmt.Fprintln(b, d.Index(i))
			}
		}
		parquet.Release(page)
	}
}
