package search_test

import (
	"fmt"
	"net/url"
	"time"

	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/search"
)

func ExampleParse() {
	v, _ := url.ParseQuery("code=http://loinc.org|44261-6&patient=p1&date=ge2024&_count=5")
	q, _, err := search.Parse("Observation", v, search.Options{Base: "https://clinic.example/fhir"})
	fmt.Println(len(q.Legs[0].Where), q.Count, err)
	fmt.Println(q.Self().Encode())

	v, _ = url.ParseQuery("code:exact=x&value-quantity=1,5x&subject.nonsense=1")
	_, _, err = search.Parse("Observation", v, search.Options{})
	fmt.Println(err)
	// Output:
	// 3 5 <nil>
	// _count=5&code=http%3A%2F%2Floinc.org%7C44261-6&date=ge2024&patient=p1
	// the parameter "code:exact" has a modifier that is not supported here; the parameter "subject.nonsense" has a parameter at the end of a chain that is not known for any type that can stand there; the parameter "value-quantity" has a value that is no decimal number, or one beyond all use
}

func ExampleExtract() {
	x := search.Extract("Observation", element.NewObject(
		element.Field{Name: "effectiveDateTime", Value: element.NewString("2024-05")},
		element.Field{Name: "subject", Value: element.NewObject(
			element.Field{Name: "reference", Value: element.NewString("Patient/p1")})},
	))
	code, _ := search.ClinicalDate("Observation")
	fmt.Println(code, x.AtLo.Format(time.DateOnly), x.AtHi.Format(time.DateOnly))
	fmt.Println(len(x.Refs), "keys: subject, patient and the bare target")
	// Output:
	// date 2024-05-01 2024-06-01
	// 3 keys: subject, patient and the bare target
}

func ExampleEncodeCursor() {
	key := [32]byte{ /* the server's secret */ }
	here := []byte("Practitioner/1 TREAT policy-7 Observation?code=x")
	now := time.Unix(1_700_000_000, 0)
	token := search.EncodeCursor(key, here, search.Cursor{Type: "Observation", ID: "obs-1"}, now.Add(24*time.Hour))

	c, err := search.DecodeCursor(key, here, token, now)
	fmt.Println(c.ID, err)
	_, err = search.DecodeCursor(key, []byte("Practitioner/2 TREAT policy-7 Observation?code=x"), token, now)
	fmt.Println(err)
	// Output:
	// obs-1 <nil>
	// this page link is not valid here: start the search again
}
