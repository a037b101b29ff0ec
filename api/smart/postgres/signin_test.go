package postgres_test

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/authz/identity"
)

func TestPatientSignsInWithAPassword(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	a := h.account("Anna@Example.org", h.patient("harbor", "Patient/anna"))
	if a.Email != "anna@example.org" {
		t.Errorf("kept as %s", a.Email)
	}
	step := must(h.Password(ctx, " ANNA@example.org", goodPassword, home))(t)
	if step.Challenge != nil || step.Token == "" || step.Device == "" || len(step.Session.Methods) != 1 || step.Session.Methods[0] != "pwd" {
		t.Fatalf("%+v", step)
	}
	session, account, err := h.Current(ctx, step.Token)
	if err != nil || session.ID != step.Session.ID || account.ID != a.ID || len(account.Memberships) != 1 || account.Memberships[0].User.String() != "Patient/anna" {
		t.Fatalf("%+v %+v %v", session, account, err)
	}
	if !h.recorded("harbor", audit.SignIn, "") {
		t.Error("the sign-in is not in the audit trail of the practice")
	}
	if len(h.events("lakeside")) > 0 {
		t.Error("another practice was told")
	}
}

// TestStaffNeedASecondFactor also where they have none: then they must enrol one, and patients need not.
func TestStaffNeedASecondFactor(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	_, secret, _ := h.enrolled("tess@example.org", h.staff("harbor", "Practitioner/tess"))
	step := must(h.Password(ctx, "tess@example.org", goodPassword, home))(t)
	if step.Token != "" || step.Challenge == nil || step.Challenge.Enrol || len(step.Challenge.Needs) != 1 || step.Challenge.Needs[0] != identity.TOTP {
		t.Fatalf("%+v", step)
	}
	// A challenge that asks for a factor is no leave to add one.
	if _, _, err := h.EnrolTOTP(ctx, step.Challenge.ID); err == nil {
		t.Fatal("a factor can be added with the password alone")
	}
	if _, err := h.EnrolPasskey(ctx, step.Challenge.ID); err == nil {
		t.Fatal("a passkey can be added with the password alone")
	}
	if _, _, err := h.Current(ctx, step.Challenge.ID); err == nil {
		t.Fatal("a challenge is a session")
	}
	done := must(h.TOTP(ctx, step.Challenge.ID, h.code(secret), home))(t)
	if got := fmt.Sprint(done.Session.Methods); got != "[pwd otp mfa]" {
		t.Errorf("methods %s", got)
	}
	// The challenge is over.
	_, err := h.TOTP(ctx, step.Challenge.ID, h.code(secret), home)
	wantErr(t, err, identity.ErrChallenge)

	strict := newHouse(t, func(c *identity.Config) { c.PatientFactor = true })
	strict.account("anna@example.org", strict.patient("harbor", "Patient/anna"))
	if step := must(strict.Password(ctx, "anna@example.org", goodPassword, home))(t); step.Challenge == nil || !step.Challenge.Enrol {
		t.Errorf("a patient where a factor is mandatory: %+v", step)
	}
}

// TestAnEnrolmentEndsWithTheFirstFactor keeps whoever only knew the password, at a time when there was no factor, from adding one afterwards.
func TestAnEnrolmentEndsWithTheFirstFactor(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	h.account("tess@example.org", h.staff("harbor", "Practitioner/tess"))
	thief := must(h.Password(ctx, "tess@example.org", goodPassword, away))(t)
	stolen, _, err := h.EnrolTOTP(ctx, thief.Challenge.ID)
	if err != nil {
		t.Fatal(err)
	}
	own := must(h.Password(ctx, "tess@example.org", goodPassword, home))(t)
	secret, _, err := h.EnrolTOTP(ctx, own.Challenge.ID)
	if err != nil {
		t.Fatal(err)
	}
	must(h.ConfirmTOTP(ctx, own.Challenge.ID, h.code(secret), home))(t)
	if step, err := h.ConfirmTOTP(ctx, thief.Challenge.ID, h.code(stolen), away); err == nil {
		t.Fatalf("a second factor was added with the password alone: %+v", step)
	}

	// Nor when both confirm at the same moment.
	for range 5 {
		a := h.account(fmt.Sprintf("race%d@example.org", h.clock.Add(1)), h.staff("harbor", "Practitioner/race"))
		var won atomic.Int32
		var wg sync.WaitGroup
		var secrets, challenges [2]string
		for n := range 2 {
			challenges[n] = must(h.Password(ctx, a.Email, goodPassword, home))(t).Challenge.ID
			var err error
			if secrets[n], _, err = h.EnrolTOTP(ctx, challenges[n]); err != nil {
				t.Fatal(err)
			}
		}
		for n := range 2 {
			code := h.code(secrets[n])
			wg.Go(func() {
				if _, err := h.ConfirmTOTP(ctx, challenges[n], code, home); err == nil {
					won.Add(1)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Fatalf("%d of two first factors were kept", won.Load())
		}
	}
}

func TestARecoveryCodeReplacesTheFactorOnce(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	_, _, signed := h.enrolled("tess@example.org", h.staff("harbor", "Practitioner/tess"))
	list := must(h.RecoveryCodes(ctx, signed.Token, home))(t)
	if len(list) != 10 {
		t.Fatalf("%d codes", len(list))
	}
	for i, want := range []error{nil, identity.ErrWrong} {
		step := must(h.Password(ctx, "tess@example.org", goodPassword, home))(t)
		if _, err := h.RecoveryCode(ctx, step.Challenge.ID, list[3], home); !errors.Is(err, want) {
			t.Errorf("use %d: %v", i, err)
		}
	}
}

// TestOneCodeLetsOneIn: of 1,000 who sign in with the same one-time code at the same moment, one gets a session.
func TestOneCodeLetsOneIn(t *testing.T) {
	const crowd = 1000
	h := newHouse(t, func(c *identity.Config) {
		// What is tested is that a code is good once, not that attempts are bounded.
		c.Limits = identity.DefaultLimits
		c.Limits.Second = identity.Limit{Free: 10 * crowd, Window: time.Hour}
		// The first step is by a provider, which costs no argon2.
		c.Assured = func(string) identity.Assurance { return identity.Assurance{Own: true} }
	})
	ctx := t.Context()
	a, secret, _ := h.enrolled("tess@example.org", h.staff("harbor", "Practitioner/tess"))
	if err := h.store.Link(ctx, "https://id.example.org", "tess", a.ID, h.now()); err != nil {
		t.Fatal(err)
	}
	challenges := make([]string, crowd)
	var wg sync.WaitGroup
	for i := range challenges {
		step, err := h.External(ctx, identity.External{Issuer: "https://id.example.org", Subject: "tess", AMR: []string{"pwd"}, Practices: []string{"harbor"}}, home)
		if err != nil || step.Challenge == nil {
			t.Fatalf("%+v %v", step, err)
		}
		challenges[i] = step.Challenge.ID
	}
	h.advance(time.Minute)
	code := h.code(secret)
	var in, wrong atomic.Int32
	for _, c := range challenges {
		wg.Go(func() {
			_, err := h.TOTP(ctx, c, code, home)
			switch {
			case errors.Is(err, identity.ErrWrong):
				wrong.Add(1)
			case err != nil:
				t.Error(err)
			default:
				in.Add(1)
			}
		})
	}
	wg.Wait()
	if in.Load() != 1 || wrong.Load() != crowd-1 {
		t.Fatalf("%d came in with one code, %d were refused", in.Load(), wrong.Load())
	}
	if !h.recorded("harbor", audit.SignIn, audit.ReasonReplay) {
		t.Error("a replayed code is not recorded as one")
	}
}

// TestAnUnknownAccountCostsTheSame counts what was computed, since a clock on a shared machine proves nothing.
func TestAnUnknownAccountCostsTheSame(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	h.account("anna@example.org", h.patient("harbor", "Patient/anna"))
	gone := h.account("gone@example.org", h.patient("harbor", "Patient/gone"))
	if err := h.Disable(ctx, "test", gone.ID, true); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Create(ctx, "test", identity.Account{Email: "bare@example.org", Name: "Bare", Memberships: []identity.Membership{h.staff("harbor", "Practitioner/b")}}, ""); err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, c := range []struct{ email, password string }{
		{"anna@example.org", wrongPassword},
		{"nobody@example.org", wrongPassword},
		{"gone@example.org", goodPassword},
		{"gone@example.org", wrongPassword},
		{"bare@example.org", ""},
		{"not an address", goodPassword},
		{"anna@example.org", string(make([]byte, 4096))},
	} {
		before := h.Derivations()
		_, err := h.Password(ctx, c.email, c.password, home)
		wantErr(t, err, identity.ErrWrong)
		if n := h.Derivations() - before; n != 1 {
			t.Errorf("%s: %d derivations, want 1", c.email, n)
		}
		texts = append(texts, err.Error())
	}
	for _, s := range texts {
		if s != texts[0] {
			t.Errorf("answers differ: %q and %q", s, texts[0])
		}
	}
	// The privacy officer is told why; of an account that there is not, nobody's is.
	if !h.recorded("harbor", audit.SignIn, audit.ReasonCredential) || !h.recorded("harbor", audit.SignIn, audit.ReasonDisabled) || !h.recorded("", audit.SignIn, audit.ReasonUnknown) {
		t.Error("a failure is not in the audit trail")
	}
}

// TestNobodyIsLockedOutByStrangers: whatever others try with an account, from one place or many, its owner gets in.
func TestNobodyIsLockedOutByStrangers(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	a := h.account("anna@example.org", h.patient("harbor", "Patient/anna"))
	device := must(h.Password(ctx, "anna@example.org", goodPassword, home))(t).Device
	from := func(i int) identity.From {
		return identity.From{Address: netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)})}
	}

	// From one place: five attempts, then delays that grow.
	free := 0
	for ; free < 20; free++ {
		if _, err := h.Password(ctx, "anna@example.org", wrongPassword, away); errors.Is(err, identity.ErrLocked) {
			break
		}
	}
	if free != 5 {
		t.Errorf("%d attempts without delay, want 5", free)
	}
	_, err := h.Password(ctx, "anna@example.org", goodPassword, away)
	wantErr(t, err, identity.ErrLocked)
	// Somewhere else she is not slowed down.
	must(h.Password(ctx, "anna@example.org", goodPassword, from(1)))(t)
	// The delay passes.
	h.advance(2 * time.Second)
	_, err = h.Password(ctx, "anna@example.org", wrongPassword, away)
	wantErr(t, err, identity.ErrWrong)
	h.advance(time.Second + 500*time.Millisecond)
	_, err = h.Password(ctx, "anna@example.org", goodPassword, away)
	wantErr(t, err, identity.ErrLocked) // two seconds by now

	// From everywhere: no more than 100 an hour, and the same for an account that there is not.
	for _, email := range []string{"anna@example.org", "nobody@example.org"} {
		wrong := 0
		for i := range 120 {
			_, err := h.Password(ctx, email, wrongPassword, from(1000+i))
			switch {
			case errors.Is(err, identity.ErrWrong):
				wrong++
			case !errors.Is(err, identity.ErrLocked):
				t.Fatal(err)
			}
		}
		if wrong > 100 || wrong < 90 {
			t.Errorf("%s: %d passwords could be tried", email, wrong)
		}
		_, err := h.Password(ctx, email, goodPassword, from(5000))
		wantErr(t, err, identity.ErrLocked)
	}
	// She still gets in: with the browser that she uses ...
	known := home
	known.Device = device
	must(h.Password(ctx, "anna@example.org", goodPassword, known))(t)
	// ... and, from a new one, with a link by e-mail.
	if err := h.Recover(ctx, "anna@example.org", from(6000)); err != nil {
		t.Fatal(err)
	}
	step := must(h.Reset(ctx, h.token("anna@example.org"), "another horse battery staple", from(6000)))(t)
	if step.Token == "" || step.Session.Account != a.ID {
		t.Errorf("%+v", step)
	}
	if !h.recorded("harbor", audit.Locked, audit.ReasonThrottled) {
		t.Error("the lock is not in the audit trail")
	}
	// A device of one account is none of another.
	h.account("ben@example.org", h.patient("harbor", "Patient/ben"))
	for i := range 120 {
		_, _ = h.Password(ctx, "ben@example.org", wrongPassword, from(7000+i))
	}
	_, err = h.Password(ctx, "ben@example.org", goodPassword, known)
	wantErr(t, err, identity.ErrLocked)
}

// TestOwnSuccessDoesNotBuyGuesses: an account of one's own does not reset what is counted for an address.
func TestOwnSuccessDoesNotBuyGuesses(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	h.account("mallory@example.org", h.patient("harbor", "Patient/mallory"))
	wrong := 0
	for i := range 150 {
		_, err := h.Password(ctx, fmt.Sprintf("victim%d@example.org", i), "Password-of-2026", away)
		if errors.Is(err, identity.ErrWrong) {
			wrong++
		}
		_, _ = h.Password(ctx, "mallory@example.org", goodPassword, away)
	}
	if wrong > 100 {
		t.Errorf("%d accounts could be tried from one address", wrong)
	}
	// Another address of the same IPv6 customer is the same place.
	v6 := func(s string) identity.From { return identity.From{Address: netip.MustParseAddr(s)} }
	for i := range 100 {
		_, _ = h.Password(ctx, fmt.Sprintf("other%d@example.org", i), "Password-of-2026", v6(fmt.Sprintf("2001:db8:1:2::%x", i+1)))
	}
	_, err := h.Password(ctx, "fresh@example.org", "Password-of-2026", v6("2001:db8:1:2:ffff::1"))
	wantErr(t, err, identity.ErrLocked)
}

// TestACrowdIsCountedWhole: attempts at the same moment are counted before they are computed.
func TestACrowdIsCountedWhole(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	h.account("anna@example.org", h.patient("harbor", "Patient/anna"))
	var wrong atomic.Int32
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := h.Password(ctx, "anna@example.org", wrongPassword, away); errors.Is(err, identity.ErrWrong) {
				wrong.Add(1)
			}
		})
	}
	wg.Wait()
	if wrong.Load() != 5 {
		t.Errorf("%d of 50 attempts at once were let through, want 5", wrong.Load())
	}
}

func TestCodesCannotBeGuessed(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	_, secret, _ := h.enrolled("tess@example.org", h.staff("harbor", "Practitioner/tess"))
	step := must(h.Password(ctx, "tess@example.org", goodPassword, away))(t)
	for range 5 {
		_, err := h.TOTP(ctx, step.Challenge.ID, "000000", away)
		wantErr(t, err, identity.ErrWrong)
	}
	_, err := h.TOTP(ctx, step.Challenge.ID, h.code(secret), away)
	wantErr(t, err, identity.ErrChallenge)
	var tried int
	for range 5 {
		step := must(h.Password(ctx, "tess@example.org", goodPassword, away))(t)
		for range 5 {
			if _, err := h.TOTP(ctx, step.Challenge.ID, "000000", away); errors.Is(err, identity.ErrWrong) {
				tried++
			}
		}
	}
	if tried != 5 {
		t.Errorf("%d more codes could be tried, want 5 of 10 in all", tried)
	}
}

func TestAStepEndsInTime(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	_, secret, _ := h.enrolled("tess@example.org", h.staff("harbor", "Practitioner/tess"))
	step := must(h.Password(ctx, "tess@example.org", goodPassword, home))(t)
	h.advance(identity.ChallengeLife)
	_, err := h.TOTP(ctx, step.Challenge.ID, h.code(secret), home)
	wantErr(t, err, identity.ErrChallenge)
}

// TestPasswordsAreRehashed brings a hash up to today's costs at the next sign-in, and not before.
func TestPasswordsAreRehashed(t *testing.T) {
	h := newHouse(t, func(c *identity.Config) { c.Argon2 = identity.Argon2{Memory: 7168, Time: 5, Threads: 1} })
	ctx := t.Context()
	h.account("anna@example.org", h.patient("harbor", "Patient/anna"))
	stored := func() (s string) {
		conn, err := pgx.Connect(ctx, h.dsn)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close(ctx) }()
		if err := conn.QueryRow(ctx, "SELECT password FROM identity.account").Scan(&s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	before := stored()
	later, err := identity.New(identity.Config{Store: h.store, Box: box(t), Audit: h.audit, Now: h.now, Pages: pages})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := later.Password(ctx, "anna@example.org", wrongPassword, home); err == nil || stored() != before {
		t.Error("a wrong password changed the hash")
	}
	must(later.Password(ctx, "anna@example.org", goodPassword, home))(t)
	after := stored()
	if before == after || after[:len("$argon2id$v=19$m=19456,t=2,p=1$")] != "$argon2id$v=19$m=19456,t=2,p=1$" {
		t.Errorf("before %s, after %s", before, after)
	}
	must(later.Password(ctx, "anna@example.org", goodPassword, home))(t)
	if stored() != after {
		t.Error("a hash of today's costs was computed again")
	}
}
