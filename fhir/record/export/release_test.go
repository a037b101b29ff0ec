package export_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/export"
)

func TestReleaseFirst(t *testing.T) {
	h := newHouse(t, releasing)
	p := h.exchange()
	id := h.accept(p, export.Request{Released: true, Profile: "safe-harbor"})
	h.finish()
	for k, lines := range h.fetched(p, id) {
		for _, l := range lines {
			fmt.Println(k, l)
		}
	}
	fmt.Printf("%+v\n", h.status(p, id))
	_ = strings.Cut
	_ = authz.Grant{}
	_ = fhir.ID("")
}
