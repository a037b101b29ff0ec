package codec_test

import (
	"fmt"

	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// Every fault is reported at once, with its path; values are not repeated.
func ExampleParse() {
	_, err := codec.Parse([]byte(`{"resourceType":"Patient","gender":"M","birthDate":"1.2.1970","Name":[]}`))
	for _, issue := range outcome.Of(err).Issues {
		fmt.Println(issue.Category.Status(), issue.Path, issue.Text)
	}
	// Output:
	// 422 Patient.gender the code is not one of those that R4 requires here
	// 422 Patient.birthDate the value is not a date: YYYY, YYYY-MM or YYYY-MM-DD
	// 400 Patient.Name this name differs from an element of Patient only in upper and lower case
}

// Codings are what labels are computed from, wherever they stand.
func ExampleResource_Codings() {
	r, err := codec.Parse([]byte(`{"resourceType":"Condition","code":{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"F11.20"}]},"subject":{"reference":"Patient/1"}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	for system, code := range r.Codings() {
		fmt.Println(system, code)
	}
	// Output: http://hl7.org/fhir/sid/icd-10-cm F11.20
}
