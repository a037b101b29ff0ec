package search

import "testing"

const vital = `{"resourceType":"Observation","id":"o","meta":{"profile":["http://hl7.org/fhir/us/core/StructureDefinition/us-core-blood-pressure"]},
 "status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"vital-signs","display":"Vital signs"}]}],
 "code":{"coding":[{"system":"http://loinc.org","code":"85354-9","display":"Blood pressure panel"}],"text":"Blood pressure panel"},
 "subject":{"reference":"Patient/0f5f9a94-25a8-4a8f-b1f9-6dbdc3d4b2c3"},"encounter":{"reference":"Encounter/0f5f9a94-25a8-4a8f-b1f9-6dbdc3d4b2c4"},
 "effectiveDateTime":"2019-03-05T10:30:00-05:00","issued":"2019-03-05T10:30:00.000-05:00",
 "component":[{"code":{"coding":[{"system":"http://loinc.org","code":"8462-4"}],"text":"Diastolic"},"valueQuantity":{"value":81,"unit":"mm[Hg]","system":"http://unitsofmeasure.org","code":"mm[Hg]"}},
  {"code":{"coding":[{"system":"http://loinc.org","code":"8480-6"}],"text":"Systolic"},"valueQuantity":{"value":117,"unit":"mm[Hg]","system":"http://unitsofmeasure.org","code":"mm[Hg]"}}]}`

const lab = `{"resourceType":"Observation","id":"o","meta":{"profile":["http://hl7.org/fhir/us/core/StructureDefinition/us-core-observation-lab"]},
 "status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"laboratory","display":"Laboratory"}]}],
 "code":{"coding":[{"system":"http://loinc.org","code":"2339-0","display":"Glucose"}],"text":"Glucose"},
 "subject":{"reference":"Patient/0f5f9a94-25a8-4a8f-b1f9-6dbdc3d4b2c3"},"encounter":{"reference":"Encounter/0f5f9a94-25a8-4a8f-b1f9-6dbdc3d4b2c4"},
 "effectiveDateTime":"2019-03-05T10:30:00-05:00","issued":"2019-03-05T10:30:00.000-05:00",
 "valueQuantity":{"value":81.12,"unit":"mg/dL","system":"http://unitsofmeasure.org","code":"mg/dL"}}`

func BenchmarkExtractVital(b *testing.B) {
	n := read(b, vital)
	b.ReportAllocs()
	for b.Loop() {
		Extract("Observation", n)
	}
}

func BenchmarkExtractLab(b *testing.B) {
	n := read(b, lab)
	b.ReportAllocs()
	for b.Loop() {
		Extract("Observation", n)
	}
}
