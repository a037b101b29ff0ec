package hipaa_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/consent/hipaa"
	"github.com/cloister-health/cloister/consent/rule"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func days(n int) time.Time { return noon.AddDate(0, 0, n) }

func TestP15_164_508_b_4_Conditions(t *testing.T) {
	yes(t, hipaa.MayCondition(true, false), "research-related treatment")
	no(t, hipaa.MayCondition(false, false), "treatment")
	no(t, hipaa.MayCondition(true, true), "on psychotherapy notes")
}

func TestP16_164_508_c_EveryElement(t *testing.T) {
	whole := hipaa.Authorization{
		Description: true, Discloser: true, Recipient: true, Purpose: true, Expiry: true, Signature: true, SignatureDate: true,
		Revocation: true, Conditioning: true, Redisclosure: true, Expires: days(1),
	}
	yes(t, hipaa.AuthorizationFaults(whole, noon) == nil, "a whole one")
	v := reflect.ValueOf(&whole).Elem()
	for i := range v.NumField() {
		if v.Field(i).Kind() != reflect.Bool || !v.Field(i).Bool() {
			continue
		}
		v.Field(i).SetBool(false)
		no(t, len(hipaa.AuthorizationFaults(whole, noon)) != 1, "without "+v.Type().Field(i).Name)
		v.Field(i).SetBool(true)
	}
	faulty := func(what string, change func(*hipaa.Authorization)) {
		a := whole
		change(&a)
		no(t, len(hipaa.AuthorizationFaults(a, noon)) != 1, what)
	}
	faulty("false", func(a *hipaa.Authorization) { a.False = true })
	faulty("expired", func(a *hipaa.Authorization) { a.Expires = noon })
	faulty("revoked", func(a *hipaa.Authorization) { a.RevokedAt = noon })
	faulty("a representative without authority", func(a *hipaa.Authorization) { a.Representative = true })
	good := whole
	good.Representative, good.Authority, good.Expires, good.RevokedAt = true, true, time.Time{}, days(1)
	yes(t, hipaa.AuthorizationFaults(good, noon) == nil, "a representative's, ended by an event, revoked tomorrow")
}

func TestH1_164_528_Accounting(t *testing.T) {
	yes(t, hipaa.Accountable(hipaa.Disclosure{Purpose: "PUBHLTH"}), "public health")
	yes(t, hipaa.Accountable(hipaa.Disclosure{Purpose: ""}), "an unknown purpose")
	for _, purpose := range []string{"TREAT", "HPAYMT", "HOPERAT", "PATRQT"} {
		no(t, hipaa.Accountable(hipaa.Disclosure{Purpose: purpose}), purpose)
	}
	d := hipaa.Disclosure{Purpose: "PUBHLTH"}
	v := reflect.ValueOf(&d).Elem()
	for i := range v.NumField() {
		if v.Field(i).Kind() == reflect.Bool {
			v.Field(i).SetBool(true)
			no(t, hipaa.Accountable(d), v.Type().Field(i).Name)
			v.Field(i).SetBool(false)
		}
	}
	yes(t, hipaa.AccountingSince(noon).Equal(noon.AddDate(-6, 0, 0)), "six years")
	yes(t, hipaa.AccountingDue(noon, false).Equal(days(60)) && hipaa.AccountingDue(noon, true).Equal(days(90)), "60 and 30 days")
	yes(t, hipaa.AccountingFree(time.Time{}, noon) && hipaa.AccountingFree(noon.AddDate(-1, 0, 0), noon), "the first of a year")
	no(t, hipaa.AccountingFree(days(-1), noon), "the second")
}

func TestH2_164_524_b_2_Access(t *testing.T) {
	yes(t, hipaa.AccessDue(noon, false).Equal(days(30)), "30 days")
	yes(t, hipaa.AccessDue(noon, true).Equal(days(60)), "and 30 more")
	no(t, hipaa.AccessDue(noon, false).After(days(30)), "a day late")
}

func TestH3_164_522_a_Restrictions(t *testing.T) {
	agreed := hipaa.Restriction{Covers: true, Agreed: true}
	paid := hipaa.Restriction{Covers: true, ToPlan: true, PaidInFull: true}
	yes(t, hipaa.RestrictionBars(agreed, "TREAT"), "agreed")
	no(t, hipaa.RestrictionBars(agreed, "ETREAT"), "in an emergency")
	no(t, hipaa.RestrictionBars(hipaa.Restriction{Agreed: true}, "TREAT"), "about something else")
	no(t, hipaa.RestrictionBars(hipaa.Restriction{Covers: true}, "TREAT"), "asked for only")
	no(t, hipaa.RestrictionBars(hipaa.Restriction{Covers: true, Agreed: true, ByLaw: true}, "TREAT"), "required by law")
	yes(t, hipaa.MustAgree(paid) && hipaa.RestrictionBars(paid, "HPAYMT") && hipaa.RestrictionBars(paid, "ETREAT"), "paid in full")
	no(t, hipaa.MustAgree(hipaa.Restriction{ToPlan: true}), "not paid")
	no(t, hipaa.MustAgree(hipaa.Restriction{PaidInFull: true}), "not to a plan")
	no(t, hipaa.MustAgree(hipaa.Restriction{ToPlan: true, PaidInFull: true, ByLaw: true}), "required by law")
}

func TestH4_164_502_b_MinimumNecessary(t *testing.T) {
	yes(t, hipaa.MinimumNecessary("HPAYMT", false, false, false), "payment")
	yes(t, hipaa.MinimumNecessary("", false, false, false), "nobody knows what for")
	no(t, hipaa.MinimumNecessary("TREAT", false, false, false), "treatment")
	no(t, hipaa.MinimumNecessary("BTG", false, false, false), "emergency treatment")
	no(t, hipaa.MinimumNecessary("PATRQT", false, false, false), "the individual")
	no(t, hipaa.MinimumNecessary("HPAYMT", true, false, false), "an authorization")
	no(t, hipaa.MinimumNecessary("HPAYMT", false, true, false), "the Secretary")
	no(t, hipaa.MinimumNecessary("HPAYMT", false, false, true), "the law")
}

func TestH5_164_502_g_Representatives(t *testing.T) {
	yes(t, hipaa.IsRepresentative(hipaa.Representative{Authority: true}), "a guardian")
	yes(t, hipaa.IsRepresentative(hipaa.Representative{Authority: true, Minor: true}), "a parent")
	no(t, hipaa.IsRepresentative(hipaa.Representative{}), "no authority")
	no(t, hipaa.IsRepresentative(hipaa.Representative{Authority: true, Minor: true, MinorAlone: true}), "the minor consented alone")
	no(t, hipaa.IsRepresentative(hipaa.Representative{Authority: true, Endangers: true}), "endangers")
	yes(t, hipaa.IsRepresentative(hipaa.Representative{Authority: true, MinorAlone: true}), "of age since")
}

func TestH6_164_312_Safeguards(t *testing.T) {
	required := map[string]bool{}
	for _, s := range hipaa.Safeguards() {
		required[s.Name] = s.Required
	}
	yes(t, len(required) == 8 && required["unique user identification"] && required["emergency access procedure"] && required["audit controls"] &&
		required["integrity"] && required["person or entity authentication"] && required["transmission security"], "required")
	no(t, required["encryption and decryption"] || required["automatic logoff"], "addressable")
}

func TestH8_164_400_BreachNotices(t *testing.T) {
	small, ok := hipaa.BreachNotices(hipaa.Breach{Discovered: noon, Individuals: 499, MostInOneState: 499})
	yes(t, ok && small.Individuals.Equal(days(60)) && small.Media.IsZero() && small.Secretary.Equal(time.Date(2027, 3, 2, 0, 0, 0, 0, time.UTC)), "499 people")
	big, ok := hipaa.BreachNotices(hipaa.Breach{Discovered: noon, Individuals: 501, MostInOneState: 501})
	yes(t, ok && big.Media.Equal(days(60)) && big.Secretary.Equal(days(60)), "501 people")
	even, _ := hipaa.BreachNotices(hipaa.Breach{Discovered: noon, Individuals: 500, MostInOneState: 500})
	yes(t, even.Media.IsZero() && even.Secretary.Equal(days(60)), "500 people")
	_, ok = hipaa.BreachNotices(hipaa.Breach{Discovered: noon, Secured: true})
	no(t, ok, "encrypted")
	_, ok = hipaa.BreachNotices(hipaa.Breach{Discovered: noon, LowProbability: true})
	no(t, ok, "low probability")
}

func TestH9_164_316_Retention(t *testing.T) {
	yes(t, hipaa.KeepUntil(noon, time.Time{}).Equal(noon.AddDate(6, 0, 0)), "from its making")
	yes(t, hipaa.KeepUntil(noon, days(10)).Equal(days(10).AddDate(6, 0, 0)), "from its last effect")
	no(t, hipaa.KeepUntil(noon, days(-10)).Before(noon.AddDate(6, 0, 0)), "shorter")
}

func TestRulesAreListed(t *testing.T) {
	seen := map[string]rule.Rule{}
	for _, r := range hipaa.Rules() {
		seen[r.ID] = r
		if strings.TrimSpace(r.Title) == "" || r.Citation == "" || slices.Contains(r.Funcs, "") || (r.Status == rule.Outside) != (len(r.Funcs) == 0) {
			t.Errorf("%+v", r)
		}
	}
	if len(seen) != 31 {
		t.Errorf("%d rules", len(seen))
	}
}
