package server_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/authz/smart"
	"github.com/cloister-health/cloister/cmd/cloister/internal/clinic"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/envelope/envelopetest"
	"github.com/cloister-health/cloister/fhir/record/export"
)

// exported is what a persona's own service gets of the whole practice, status and lines.
func (h *house) exported(t *testing.T, p clinic.Persona) string {
	t.Helper()
	ctx := context.Background()
	sink, err := export.OpenDisk(filepath.Join(t.TempDir(), "exports"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sink.Close() }()
	s, err := h.core.Exports(export.Config{Base: base, Sink: sink, Keys: envelopetest.Keys(), Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Now: h.now, Settle: -1}, record.LabelsExchange)
	if err != nil {
		t.Fatal(err)
	}
	who, err := principal(h.core.Store, p)
	if err != nil {
		t.Fatal(err)
	}
	who.Scopes = smart.Parse("system/*.rs")
	g, err := h.core.Engine.Authorize(ctx, who, fhir.Operation, "")
	if err != nil {
		t.Fatal(err)
	}
	id, err := s.Accept(ctx, g, export.Request{Level: export.System, URL: base + "/$export"})
	if err != nil {
		t.Fatal(err)
	}
	for busy := true; busy; {
		if busy, err = s.Step(ctx); err != nil {
			t.Fatal(err)
		}
	}
	st, err := s.Status(ctx, g, id, 1)
	if err != nil || st.State != export.Done {
		t.Fatalf("%+v %v", st, err)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%+v\n", st)
	for _, f := range st.Files {
		lines, err := s.Fetch(ctx, g, id, f.Name)
		if err == nil {
			err = lines.Copy(&b)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

// What leaves the sample clinic in bulk is what would leave it if all that its recipient may
// not see had never been there, and no note of a session is in it.
func TestL28_BulkExportOfTheSampleClinic(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"hie", "therapist"} {
		w := clonesOf(t, name)
		w.excise(t)
		full, twin := w.full.exported(t, w.persona), w.twin.exported(t, w.persona)
		if full != twin {
			t.Errorf("%s: the twins differ", name)
			a, b := strings.Split(full, "\n"), strings.Split(twin, "\n")
			for i := range min(len(a), len(b)) {
				if a[i] != b[i] {
					t.Errorf("line %d\n%.400s\n%.400s", i, a[i], b[i])
					break
				}
			}
		}
		if n := strings.Count(full, "\n"); n < 100 {
			t.Errorf("%s: %d lines, which shows next to nothing", name, n)
		}
		if strings.Contains(full, "psychotherapy-note") || strings.Contains(full, "sud-counseling-note") {
			t.Errorf("%s: a note of a session leaves", name)
		}
	}
}
