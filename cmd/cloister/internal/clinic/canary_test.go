package clinic

import (
	"encoding/base64"
	"net/http"
	"regexp"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/cloister-health/cloister/fhir/element"
)

// bare lists the JSON names of the strings that carry no canary: codes,
// systems, ids, dates and URLs, numbers that name something, and the parts of
// names and addresses by which one searches. Whatever is not in it must carry one.
var bare = map[string]bool{
	"resourceType": true, "id": true, "reference": true, "system": true, "code": true, "url": true, "uri": true, "authority": true,
	"status": true, "docStatus": true, "lifecycleStatus": true, "intent": true, "use": true, "mode": true, "gender": true, "type": true,
	"contentType": true, "language": true, "linkId": true, "definition": true, "version": true, "questionnaire": true, "subjectType": true, "required": true, "currency": true,
	"unit": true, "periodUnit": true, "value": true, "subscriberId": true,
	"family": true, "given": true, "city": true, "postalCode": true, "country": true,
	"date": true, "start": true, "end": true, "created": true, "birthDate": true, "authored": true, "authoredOn": true, "issued": true,
	"effectiveDateTime": true, "onsetDateTime": true, "recordedDate": true, "servicedDate": true, "startDate": true, "dueDate": true,
	"dateTime": true, "verificationDate": true, "profile": true,
}

func TestEveryTextCarriesItsOwnCanary(t *testing.T) {
	pattern := regexp.MustCompile(CanaryPattern)
	owners := map[string]string{}
	for practice, r := range all(Config{Seed: 1, Patients: 60, Now: today}) {
		r.Walk(func(name string, n *element.Node) bool {
			if n.Kind != element.String {
				return true
			}
			text := n.Text
			if name == "data" {
				raw, err := base64.StdEncoding.DecodeString(text)
				if err != nil {
					t.Errorf("%v: data: %v", refOf(r), err)
				}
				text = string(raw)
			}
			want := 1
			if bare[name] {
				want = 0
			}
			if got := len(pattern.FindAllString(text, -1)); got != want {
				t.Errorf("%v: %s has %d canaries: %q", refOf(r), name, got, text)
			}
			return true
		})
		found := Canaries(r)
		if len(found) == 0 {
			t.Errorf("%v has no canary", refOf(r))
		}
		for _, c := range found {
			if owner, taken := owners[c]; taken {
				t.Errorf("%s stands in %s and in %v of %s", c, owner, refOf(r), practice)
			}
			owners[c] = practice + " " + refOf(r).String()
		}
		inBytes := FindCanaries(r.AppendJSON(nil))
		slices.Sort(found)
		slices.Sort(inBytes)
		if !slices.Equal(found, inBytes) {
			t.Errorf("%v: %d canaries in the tree, %d found in its JSON", refOf(r), len(found), len(inBytes))
		}
	}
}

func TestFindCanariesLooksIntoBase64(t *testing.T) {
	const token = "CNRY-0123456789abcdef"
	header := http.Header{"X-Leak": {"text " + token}}
	for name, text := range map[string]string{
		"glued":    "x/" + base64.StdEncoding.EncodeToString([]byte("note "+token)),
		"plain":    "error: " + token + "!",
		"header":   header.Get("X-Leak"),
		"standard": `{"data":"` + base64.StdEncoding.EncodeToString([]byte("éé?? "+token)) + `"}`,
		"raw":      base64.RawStdEncoding.EncodeToString([]byte("a note. " + token + " and more text")),
		"url":      base64.URLEncoding.EncodeToString([]byte{0xfb, 0xff, 0xfe}) + base64.URLEncoding.EncodeToString([]byte(token)),
	} {
		if got := FindCanaries([]byte(text)); !slices.Equal(got, []string{token}) {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got := FindCanaries([]byte("CNRY-0123 cnry-0123456789abcdef")); got != nil {
		t.Errorf("found %v where there is none", got)
	}
}

func TestAnswersAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := rapid.SampledFrom(instruments).Draw(t, "instrument")
		total := rapid.IntRange(0, 40).Draw(t, "total")
		s := newSite(Config{Seed: rapid.Uint64().Draw(t, "seed")}.normal(), Practices()[0])
		sum := 0
		for i, a := range q.answers(s.dice("answers"), total) {
			if a < 0 || a > 3 {
				t.Fatalf("item %d is answered with %d", i, a)
			}
			sum += a
		}
		if sum != min(total, 3*len(q.items)) {
			t.Fatalf("asked for %d, got %d", total, sum)
		}
	})
}
