package export_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/export"
)

// Any range of a file is that of the bytes of the whole, over all its parts and without the
// lines that may not be seen any more; what is not there any more is not let out half.
func TestRangesOfWhatIsLeft(t *testing.T) {
	h := newHouse(t)
	ctx := context.Background()
	p := h.exchange()
	id := h.accept(p, export.Request{Types: []fhir.ResourceType{"Observation"}})
	h.finish()
	read := func() (whole, tag string) {
		t.Helper()
		s, err := h.Fetch(ctx, h.Grant(p), id, "1.ndjson")
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := s.Copy(&b); err != nil || int64(b.Len()) != s.Size() {
			t.Fatal(err, b.Len(), s.Size())
		}
		whole = b.String()
		for from := int64(0); from <= s.Size(); from += 487 {
			for _, to := range []int64{from + 1, from + 250, from + 700, s.Size()} {
				to = min(to, s.Size())
				var piece bytes.Buffer
				if err := s.CopyRange(&piece, from, to); err != nil || piece.String() != whole[from:max(from, to)] {
					t.Fatalf("%d to %d: %v %q", from, to, err, piece.String())
				}
			}
		}
		return whole, s.Tag()
	}
	all, tag := read()
	if again, same := read(); again != all || same != tag || strings.Count(all, "\n") != 13 {
		t.Errorf("twice is not the same: %q %q", tag, same)
	}
	s, err := h.Fetch(ctx, h.Grant(p), id, "2.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	h.Load(consent("c", "part2-specific", "inactive")) // sa is the last line
	var b bytes.Buffer
	if err := s.Copy(&b); err == nil || strings.Contains(b.String(), `"sa"`) {
		t.Errorf("revoked in the middle of a download: %v %s", err, b.String())
	}
	rest, other := read()
	if other == tag || strings.Contains(rest, `"sa"`) || !strings.HasPrefix(all, rest) {
		t.Errorf("after it: %q", rest)
	}
	h.Load(consent("c", "part2-specific", "active"))
	if again, same := read(); again != all || same != tag {
		t.Errorf("with the consent again: %q", same)
	}
}
