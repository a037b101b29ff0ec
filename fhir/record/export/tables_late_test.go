package export_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/export"
)

// What goes away between the survey and the end leaves no row and no key that leads to it behind, also where it is of a type of
// which there is no table.
func TestD8_WhatChangesIsTabledAgain(t *testing.T) {
	for name, c := range map[string]struct {
		behind fhir.ID // is read when it changes
		change func(h *house)
		want   string // rows of encounter, phq9_score and patient, and organizations that encounters lead to
	}{
		"nothing": {"", func(*house) {}, "2 27 17 1"},
		"an organization is deleted": {"general", func(h *house) { // the Encounters are written
			if err := h.Write(fhir.Delete, `{"resourceType":"Organization","id":"general"}`); err != nil {
				h.T.Fatal(err)
			}
		}, "2 27 17 0"},
		"an Observation is deleted": {"o05", func(h *house) { h.remove("Observation/o05") }, "2 26 17 1"},
		"somebody wants out":        {"o02", func(h *house) { h.Load(optOut("cleo")) }, "2 23 16 1"},
		"a consent is revoked":      {"sa", func(h *house) { h.Load(consent("c", "part2-specific", "inactive")) }, "1 26 17 1"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, releasing)
			clinicOf(h)
			n, changed := 0, false
			h.cfg.Releases = between{h.cfg.Releases, func(_ int, page []export.Source) {
				if c.behind != "" && !changed && has(page, c.behind) {
					changed = true
					c.change(h)
				}
			}, &n}
			var err error
			if h.Service, err = export.New(h.cfg); err != nil {
				t.Fatal(err)
			}
			id := h.accept(h.exchange(), tabled("csv", "Encounter", "Observation", "Organization", "Patient"))
			h.finish()
			got := h.tables(id, "csv")
			keyed(t, got)
			led := map[string]bool{}
			at := slices.Index(got["encounter"].columns, "organization_key")
			for _, r := range got["encounter"].rows {
				if r[at] != "" {
					led[r[at]] = true
				}
			}
			if x := fmt.Sprint(len(got["encounter"].rows), len(got["phq9_score"].rows), len(got["patient"].rows), len(led)); x != c.want || changed != (c.behind != "") {
				t.Errorf("%s, want %s: %s", x, c.want, got["encounter"].text)
			}
			if strings.Contains(got["encounter"].text, "general") {
				t.Error(got["encounter"].text)
			}
		})
	}
}
