package deident

import (
	"strings"
	"testing"
)

// Ages in all shapes that R4 has for them, of a patient who is 46, of one who is 96 and of one whose date of birth nobody knows: no age over
// 89 is told, and none that with the year of its record tells that somebody is over 89 by now.
func TestD1_164_514_b_2_i_C_AgesInEveryShape(t *testing.T) {
	const over = "'value':90,'comparator':'>='"
	of := func(value, unit string) string {
		return "{'value':" + value + ",'system':'http://unitsofmeasure.org','code':'" + unit + "'}"
	}
	years := map[string]string{"young": "1980-06-15", "elder": "1930-01-01", "unknown": ""}
	condition := "{'resourceType':'Condition','id':'o','subject':{'reference':'Patient/p'},'recordedDate':'2015-03-05',%}"
	result := "{'resourceType':'Observation','id':'o','status':'final','code':" + loincScore + ",'effectiveDateTime':'2015-03-05',%}"
	age := strings.Replace(result, loincScore, "{'coding':[{'system':'http://loinc.org','code':'30525-0'}]}", 1)
	component := "{'resourceType':'Observation','id':'o','status':'final','code':" + loincScore + ",'component':[{'code':{'coding':[{'system':'http://loinc.org','code':'30525-0'}]},%}]}"
	relative := "{'resourceType':'FamilyMemberHistory','id':'o','status':'completed','patient':{'reference':'Patient/p'},'relationship':{'text':'x'},'date':'2015',%}"
	answers := func(link string) string {
		return "{'resourceType':'QuestionnaireResponse','id':'o','status':'completed','authored':'2015','item':[{'linkId':'" + link + "','answer':[{%}]}]}"
	}
	const rounded, none = "over", ""
	for _, x := range []struct {
		name, body, value     string
		young, elder, unknown string // what is told: the same, that it is over 89, or nothing
	}{
		{"onset", condition, "'onsetAge':" + of("45", "a"), "same", none, none},
		{"onset", condition, "'onsetAge':" + of("85", "a"), "same", none, none}, // in 2015: 96 now
		{"onset", condition, "'onsetAge':" + of("90", "a"), rounded, rounded, rounded},
		{"onset in months", condition, "'onsetAge':" + of("1079", "mo"), "same", none, none},
		{"onset in months", condition, "'onsetAge':" + of("1080", "mo"), rounded, rounded, rounded},
		{"onset in weeks", condition, "'onsetAge':" + of("4697", "wk"), rounded, rounded, rounded},
		{"onset in days", condition, "'onsetAge':" + of("32873", "d"), rounded, rounded, rounded},
		{"onset in hours", condition, "'onsetAge':" + of("788941", "h"), rounded, rounded, rounded},
		{"onset in another unit", condition, "'onsetAge':" + of("93", "a_j"), none, none, none},
		{"onset in no unit", condition, "'onsetAge':{'value':93}", none, none, none},
		{"onset in words", condition, "'onsetAge':{'value':93,'unit':'years'}", none, none, none},
		{"onset as text", condition, "'onsetString':'at 93'", none, none, none},
		{"abatement", condition, "'abatementAge':" + of("93", "a"), rounded, rounded, rounded},
		{"a range", condition, "'onsetRange':{'low':" + of("91", "a") + ",'high':" + of("95", "a") + "}", none, none, none},
		{"more than 89", condition, "'onsetAge':{'value':89,'comparator':'>','system':'http://unitsofmeasure.org','code':'a'}", rounded, rounded, rounded},
		{"a procedure", "{'resourceType':'Procedure','id':'o','status':'completed','subject':{'reference':'Patient/p'},%}", "'performedAge':" + of("85", "a"), "same", none, none},

		{"a result", result, "'valueQuantity':" + of("85", "a"), "same", none, none},
		{"a result in days", result, "'valueQuantity':" + of("31046", "d"), "same", none, none}, // 85 years
		{"a result in seconds", result, "'valueQuantity':" + of("2.9", "Gs"), rounded, rounded, rounded},
		{"a result in seconds", result, "'valueQuantity':" + of("2682.4", "Ms"), "same", none, none}, // 85 years
		{"a result in thousands of days", result, "'valueQuantity':" + of("33", "10*3.d"), none, none, none},
		{"a result in days per thousandth", result, "'valueQuantity':" + of("33", "d/10*-3"), none, none, none},
		{"a rate", result, "'valueQuantity':" + of("33", "/d"), "same", "same", "same"},
		{"a dose over time", result, "'valueQuantity':" + of("33", "mg.h/L"), "same", "same", "same"},
		{"a few days", result, "'valueQuantity':" + of("14", "d"), "same", "same", "same"},
		{"a pulse interval", result, "'valueQuantity':" + of("412", "ms"), "same", "same", "same"},
		{"a ratio", result, "'valueRatio':{'numerator':" + of("93", "a") + ",'denominator':{'value':1}}", rounded, rounded, rounded},
		{"an age as a number", age, "'valueInteger':71", none, none, none},
		{"an age as a quantity", age, "'valueQuantity':" + of("71", "a"), "same", none, none},
		{"an age in no unit", age, "'valueQuantity':{'value':71}", none, none, none},
		{"an age in part", component, "'valueInteger':71", none, none, none},
		{"an age in part", component, "'valueQuantity':" + of("93", "a"), rounded, rounded, rounded},
		{"a year of birth", strings.Replace(age, "30525-0", "80904-6", 1), "'valueInteger':1931", none, none, none},
		{"a number above 89", result, "'valueInteger':93", none, none, none},
		{"a score", result, "'valueInteger':17", "same", "same", "same"},

		{"a question for the age", answers("/30525-0"), "'valueInteger':71", none, none, none},
		{"a question for the age", answers("/69725-0/30525-0"), "'valueQuantity':" + of("71", "a"), "same", none, none},
		{"a question for the age", answers("/30525-0"), "'valueDecimal':71.5", none, none, none},
		{"another question", answers("/44250-9"), "'valueInteger':3", "same", "same", "same"},

		{"a relative", relative, "'ageAge':" + of("45", "a"), "same", none, none},
		{"a relative who was 85 in 2015", relative, "'ageAge':" + of("85", "a"), none, none, none},
		{"a relative who was 79 in 2015", relative, "'ageAge':" + of("79", "a"), none, none, none}, // perhaps 90 by now
		{"a relative who was 78 in 2015", relative, "'ageAge':" + of("78", "a"), "same", none, none},
		{"a relative in months", relative, "'ageAge':" + of("1020", "mo"), none, none, none},
		{"a relative about 85", relative, "'ageRange':{'low':" + of("80", "a") + ",'high':" + of("85", "a") + "}", none, none, none},
		{"a relative as text", relative, "'ageString':'85'", none, none, none},
		{"a relative who died at 85", relative, "'deceasedAge':" + of("85", "a"), "same", none, none},
		{"a relative who died at 93", relative, "'deceasedAge':" + of("93", "a"), rounded, rounded, rounded},
		{"a relative who died when", relative, "'deceasedDate':'2015'", none, none, none},
		{"what a relative had", relative, "'condition':[{'code':{'text':'x'},'onsetAge':" + of("93", "a") + "}]", rounded, rounded, rounded},
	} {
		for who, want := range map[string]string{"young": x.young, "elder": x.elder, "unknown": x.unknown} {
			trial := newTrial(t, "safe-harbor", func(c *Config) { c.Subjects = people{"p": {Birth: years[who]}} })
			n := trial.run(stored{patient: "p", body: strings.Replace(x.body, "%", x.value, 1)})[0]
			if n == nil {
				t.Fatalf("%s: left out: %v", x.name, trial.report.LeftOut)
			}
			text := shown(n)
			_, number, _ := strings.Cut(x.value, "':")
			digits := strings.TrimFunc(number, func(r rune) bool { return r < '0' || r > '9' })
			digits, _, _ = strings.Cut(digits, ",")
			same := strings.Contains(text, "'value':"+digits+",") || strings.Contains(text, ":"+digits+"}") || strings.Contains(text, ":"+digits+",")
			if got := map[bool]string{true: "same"}[same]; strings.Contains(text, over) != (want == rounded) || want != rounded && got != want || want == rounded && same && digits != "90" {
				t.Errorf("%s, %s, %s: want %q, got %s", x.name, x.value, who, want, text)
			}
		}
	}
}

// What a patient's years tell together: of whoever is over 89, neither the year of birth nor one that is hers because she was born in it.
func TestD1_164_514_b_2_i_C_YearsThatTellTogether(t *testing.T) {
	for _, x := range []struct{ birth, death, wantBirth, wantDeath string }{
		{"1980-06-15", "2024-03-05", "1980", "2024"},
		{"1930-01-01", "2022-03-05", "", "2022"}, // at 92
		{"1930-01-01", "1975-03-05", "", "1975"},
		{"1936-03-02", "2026-02-28", "1936", "2026"}, // at 89: the day after, she would have been 90
		{"1936-03-01", "2026-02-28", "", "2026"},
		{"1936", "2026-02-28", "", "2026"},   // perhaps
		{"1934-05-05", "1935-05-04", "", ""}, // in the first year of life
	} {
		trial := newTrial(t, "safe-harbor", func(c *Config) { c.Subjects = people{"p": {Birth: x.birth}} })
		in := []stored{
			{body: "{'resourceType':'Patient','id':'p','birthDate':'" + x.birth + "','deceasedDateTime':'" + x.death + "'}"},
			{patient: "p", body: "{'resourceType':'Observation','id':'o','status':'final','code':{'coding':[{'system':'http://loinc.org','code':'21112-8'}]},'valueDateTime':'" + x.birth + "'}"},
			{patient: "p", body: "{'resourceType':'Condition','id':'c','subject':{'reference':'Patient/p'},'onsetDateTime':'" + x.birth + "'}"},
		}
		for i, n := range trial.run(in...) {
			text := shown(n)
			if got := strings.Contains(text, x.birth[:4]); got != (x.wantBirth != "") {
				t.Errorf("%d, born %s: %s", i, x.birth, text)
			}
			if i == 0 && strings.Contains(text, "'deceasedDateTime':'"+x.death[:4]+"'") != (x.wantDeath != "") {
				t.Errorf("died %s, born %s: %s", x.death, x.birth, text)
			}
		}
	}
}
