package postgres

import (
	"strconv"
	"strings"

	"github.com/cloister-health/cloister/fhir"
)

// care are the types of records by which a patient is one of the program that they come from. What she
// or the office can make without a program's taking part is not among them.
var care = intList(fhir.ResourceType("CarePlan").Code(), fhir.ResourceType("Condition").Code(), fhir.ResourceType("Encounter").Code(),
	fhir.ResourceType("EpisodeOfCare").Code(), fhir.ResourceType("MedicationRequest").Code(), fhir.ResourceType("Procedure").Code())

// attended holds for an Organization that is a program which has treated the caller: she knows it from her own
// record (42 CFR 2.23), and names it in what she signs. To everybody else it is what is not there (2.13(c)).
func (x *restriction) attended(alias, me string) string {
	return "(" + alias + ".patient IS NULL AND " + alias + ".id = ANY (" + alias + ".programs) AND EXISTS (SELECT FROM record.resource o WHERE o.tenant = " + x.tenant +
		" AND o.patient = " + me + " AND o.co_patients IS NULL AND NOT o.deleted AND o.type IN (" + care + ") AND " + alias + ".id = ANY (o.programs)))"
}

func intList(list ...int16) string {
	out := make([]string, len(list))
	for i, n := range list {
		out[i] = strconv.Itoa(int(n))
	}
	return strings.Join(out, ", ")
}
