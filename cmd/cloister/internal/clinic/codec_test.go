package clinic

import (
	"bytes"
	"testing"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
)

// TestCodecAcceptsEverything reads each resource as the server would and finds
// the same tree again.
func TestCodecAcceptsEverything(t *testing.T) {
	for _, c := range []Config{sample(), {Seed: 11, Patients: 80, Now: today}} {
		for _, r := range all(c) {
			made := r.AppendJSON(nil)
			got, err := codec.Parse(made)
			if err != nil {
				t.Fatalf("%v: %v", refOf(r), err)
			}
			if read := got.Root.AppendJSON(nil); !bytes.Equal(made, read) {
				t.Fatalf("%v: what was read differs:\nmade %s\nread %s", refOf(r), made, read)
			}
		}
	}
}

// TestCodecUnderstands reads those resources that decide access as the server
// does: nothing in them may be beyond it, or they would give no rights.
func TestCodecUnderstands(t *testing.T) {
	directives, teams, parents := 0, 0, 0
	for _, r := range all(Config{Seed: 1, Patients: 40, Now: today}) {
		ref := refOf(r)
		switch ref.Type {
		case "Consent", "CareTeam", "RelatedPerson":
		default:
			continue
		}
		res, err := codec.Parse(r.AppendJSON(nil))
		if err != nil {
			t.Fatalf("%v: %v", ref, err)
		}
		switch ref.Type {
		case "Consent":
			d, err := codec.ConsentDirective(res)
			if err != nil || len(d.Malformed) != 0 || len(d.Verified) == 0 || !d.Source || len(d.Performers) != 1 || len(d.Organizations) != 1 ||
				d.DateTime.IsZero() || d.Root.Type != "permit" || len(d.Root.Actors) == 0 || len(d.Root.Purposes) == 0 {
				t.Errorf("%v: %v, %+v", ref, err, d)
			}
			for _, a := range d.Root.Actors {
				if a.Reference == (fhir.Ref{}) && a.Identifier.System != fhir.RecipientClass {
					t.Errorf("%v: a recipient that nobody is: %+v", ref, a)
				}
			}
			directives++
		case "CareTeam":
			v, err := codec.CareTeam(res)
			if err != nil || len(v.Malformed) != 0 || v.Status != "active" || v.Patient.Type != "Patient" || len(v.Participants) < 2 {
				t.Errorf("%v: %v, %+v", ref, err, v)
			}
			teams++
		case "RelatedPerson":
			v, err := codec.RelatedPerson(res)
			if err != nil || len(v.Malformed) != 0 || !v.Active || v.Patient.Type != "Patient" {
				t.Errorf("%v: %v, %+v", ref, err, v)
			}
			parents++
		}
	}
	if directives < 4 || teams < 40 || parents == 0 {
		t.Errorf("%d consents, %d teams, %d parents", directives, teams, parents)
	}
}
