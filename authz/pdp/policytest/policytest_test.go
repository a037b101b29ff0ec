package policytest_test

import (
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/cloister-health/cloister/authz/pdp"
	"github.com/cloister-health/cloister/authz/pdp/policytest"
)

func cases(t *testing.T) []policytest.Case {
	t.Helper()
	cases, err := policytest.Load(os.DirFS("../../../testdata/authz"))
	if err != nil {
		t.Fatal(err)
	}
	return cases
}

func TestCases(t *testing.T) {
	p, err := pdp.New(pdp.Embedded())
	if err != nil {
		t.Fatal(err)
	}
	all := cases(t)
	if len(all) < 60 {
		t.Errorf("%d cases, want at least 60", len(all))
	}
	for _, r := range policytest.Run(p, all) {
		t.Run(r.Case.Name, func(t *testing.T) {
			if r.Fault != "" {
				t.Error(r.Fault)
			}
		})
	}
}

// Every line of the policy is held in place by a case: without it, or with its
// effect turned round, some case fails. A policy that no loader accepts, or no
// self-test, cannot come into force either.
func TestEveryLineIsHeldByACase(t *testing.T) {
	if testing.Short() {
		t.Skip("minutes under the race detector, and one goroutine")
	}
	src := pdp.Embedded()
	all := cases(t)
	lines := strings.Split(src.Policy, "\n")
	turn := strings.NewReplacer(", allow,", ", deny,", ", deny,", ", allow,")
	for i, l := range lines {
		if !strings.HasPrefix(l, "p,") {
			continue
		}
		name := strings.TrimSpace(l[strings.LastIndex(l, ",")+1:])
		for what, with := range map[string]string{"deleted": "", "turned": turn.Replace(l)} {
			t.Run(name+"/"+what, func(t *testing.T) {
				mutant := append([]string(nil), lines...)
				mutant[i] = with
				p, err := pdp.New(pdp.Source{Policy: strings.Join(mutant, "\n"), Groups: src.Groups})
				if err != nil {
					return
				}
				for _, r := range policytest.Run(p, all) {
					if r.Fault != "" {
						return
					}
				}
				t.Errorf("line %d is %s and no case notices: add one, or remove the line", i+1, what)
			})
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	const good = "name: x\n  rules: [P4]\n  caller: {roles: [therapist], purpose: TREAT}\n  action: read\n  resource: {type: Patient}\n  expect: {decision: deny, by: \"-\"}\n"
	for name, c := range map[string]struct{ text, want string }{
		"unknown key":      {"cases:\n- color: red\n  " + good, "color"},
		"unknown persona":  {"cases:\n- " + strings.Replace(good, "{roles: [therapist], purpose: TREAT}", "nobody", 1), "unknown persona"},
		"unknown fact":     {"cases:\n- facts: [luck]\n  " + good, "luck"},
		"unknown label":    {"cases:\n- " + strings.Replace(good, "type: Patient", "type: Patient, labels: [X]", 1), "unknown label"},
		"unknown type":     {"cases:\n- " + strings.Replace(good, "Patient", "Patience", 1), "Patience"},
		"unknown action":   {"cases:\n- " + strings.Replace(good, "action: read", "action: peek", 1), "peek"},
		"no rule":          {"cases:\n- " + strings.Replace(good, "rules: [P4]", "rules: []", 1), "names the rules"},
		"no deciding line": {"cases:\n- " + strings.Replace(good, `, by: "-"`, "", 1), "expect.by"},
		"unknown law":      {"cases:\n- jurisdiction: [US-ZZ]\n  " + good, "US-ZZ"},
		"maybe":            {"cases:\n- " + strings.Replace(good, "decision: deny", "decision: maybe", 1), "maybe"},
		"a request":        {"cases:\n- " + good + "  request: {path: /Patient}\n", "request not found"},
		"name twice":       {"cases:\n- " + good + "- " + good, "name of its own"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := policytest.Load(fstest.MapFS{"a.yaml": {Data: []byte(c.text)}})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
	if cases, err := policytest.Load(fstest.MapFS{"a.yaml": {Data: []byte("cases:\n- " + good)}}); err != nil || len(cases) != 1 {
		t.Errorf("the case that the others spoil: %v", err)
	}
	var none fs.FS = fstest.MapFS{}
	if _, err := policytest.Load(none); err == nil {
		t.Error("no cases is not success")
	}
}

func TestRunReports(t *testing.T) {
	p, err := pdp.New(pdp.Embedded())
	if err != nil {
		t.Fatal(err)
	}
	for _, expect := range []string{"{decision: permit, by: treatment}", "{decision: deny, by: treatment}"} {
		cs, err := policytest.Load(fstest.MapFS{"a.yaml": {Data: []byte("cases:\n- name: x\n  rules: [S4]\n  caller: {roles: [therapist], purpose: TREAT}\n" +
			"  action: read\n  resource: {type: Patient}\n  expect: " + expect + "\n")}})
		if err != nil {
			t.Fatal(err)
		}
		if r := policytest.Run(p, cs); len(r) != 1 || r[0].Fault == "" {
			t.Errorf("%s: no fault where the answer is deny by -", expect)
		}
	}
}
