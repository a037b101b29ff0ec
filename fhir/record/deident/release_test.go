package deident

import "testing"

func TestSmoke(t *testing.T) {
	x := newTrial(t, "safe-harbor")
	for _, n := range x.run(
		stored{body: "{'resourceType':'Patient','id':'p','name':[{'family':'X'}],'birthDate':'1980-06-15','gender':'female','address':[{'line':['1 Main'],'city':'Troy','state':'NY','postalCode':'12180-1234'}]}"},
		stored{patient: "p", body: "{'resourceType':'Observation','id':'o','status':'final','code':{'coding':[{'system':'http://loinc.org','code':'44261-6','display':'PHQ'}],'text':'x'},'subject':{'reference':'Patient/p','display':'X'},'effectiveDateTime':'2024-03-01T10:00:00Z','valueInteger':12}"},
	) {
		t.Log(shown(n))
	}
	t.Log(x.report)
}
