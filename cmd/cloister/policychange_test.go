package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz/pdp"
)

func ran(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var c cli
	cmd, err := c.parser().Parse(args)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd.BindTo(&out, (*io.Writer)(nil))
	err = cmd.Run()
	return out.String(), err
}

func put(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const harbor = "../../testdata/policies/harbor"

func TestPolicyLint(t *testing.T) {
	if out, err := ran(t, "policy", "lint"); err != nil || !strings.HasPrefix(out, "house: no faults, 0 warnings") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := ran(t, "policy", "lint", harbor); err != nil || !strings.Contains(out, "no faults, 0 warnings") {
		t.Errorf("%v\n%s", err, out)
	}
	dir := t.TempDir()
	put(t, filepath.Join(dir, "a", "policy.csv"), "p, biller, HPAYMT, read, Patient, general, -, allow, again\n")
	if out, err := ran(t, "policy", "lint", filepath.Join(dir, "a")); err != nil || !strings.Contains(out, "line 1, again: other lines permit all of it") {
		t.Errorf("%v\n%s", err, out)
	}
	put(t, filepath.Join(dir, "b", "policy.csv"), "# ours\np, boss, HPAYMT, read, Patient, general, -, allow, x\ndrop, nothing\n")
	out, err := ran(t, "policy", "lint", filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "none"))
	if err == nil || !strings.Contains(err.Error(), "2 of 3") || !strings.Contains(out, `b/policy.csv:2: unknown role "boss"`) || !strings.Contains(out, "b/policy.csv:3: ") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestPolicyDiff(t *testing.T) {
	out, err := ran(t, "policy", "diff", "house", harbor)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"biller (HPAYMT): read RelatedPerson\n  labels {- PSY MH BH COGN DVD EMOTDIS}\n  was    deny\n  is     unrestricted", "trainee (TREAT): create, update", "hie (TREAT): read", " deny what was open"} {
		if !strings.Contains(out, text) {
			t.Errorf("lacks %q:\n%s", text, out)
		}
	}
	text, err := ran(t, "policy", "diff", "--json", "house", harbor)
	if err != nil {
		t.Fatal(err)
	}
	var changes []pdp.Change
	if err := json.Unmarshal([]byte(text), &changes); err != nil || len(changes) < 4 {
		t.Errorf("%v: %d changes", err, len(changes))
	}
	if out, err := ran(t, "policy", "diff", "--json", "house", "house"); err != nil || strings.TrimSpace(out) != "[]" {
		t.Errorf("%v\n%s", err, out)
	}
	src := pdp.Embedded()
	dir := t.TempDir()
	file := put(t, filepath.Join(dir, "policy.csv"), strings.Replace(src.Policy, "p, hie, TREAT, read, directory", "p, hie, TREAT, read, Organization", 1))
	if out, err := ran(t, "policy", "diff", "house", file); err != nil || !strings.Contains(out, "hie (TREAT): read Endpoint") {
		t.Errorf("another policy.csv: %v\n%s", err, out)
	}
	put(t, filepath.Join(dir, "groups.csv"), strings.Replace(src.Groups, "label, general, PSY+MH+BH", "label, general, PSY+MH", 1))
	if out, err := ran(t, "policy", "diff", "house", file); err != nil || !strings.Contains(out, "{BH}") {
		t.Errorf("other groups beside it: %v\n%s", err, out)
	}
	for _, args := range [][]string{{"house", filepath.Join(dir, "none")}, {filepath.Join(dir, "none"), "house"}} {
		if _, err := ran(t, append([]string{"policy", "diff"}, args...)...); err == nil {
			t.Errorf("%v: no fault", args)
		}
	}
}

// The questions and cases of a practice are asked of its own policy.
func TestPolicyOfAPractice(t *testing.T) {
	ask := []string{"policy", "explain", "--role=biller", "--purpose=HPAYMT", "--type=RelatedPerson"}
	if out, err := ran(t, ask...); err != nil || !strings.HasPrefix(out, "deny") {
		t.Errorf("the house: %v\n%s", err, out)
	}
	if out, err := ran(t, append(ask, "--policy="+harbor)...); err != nil || !strings.HasPrefix(out, "permit: by harbor-biller-relatives") {
		t.Errorf("the practice: %v\n%s", err, out)
	}
	cases := put(t, filepath.Join(t.TempDir(), "a.yaml"), "cases:\n- name: x\n  rules: [H4]\n  caller: {roles: [biller], purpose: HPAYMT}\n  action: read\n  resource: {type: RelatedPerson}\n  expect: {decision: permit, by: harbor-biller-relatives}\n")
	if out, err := ran(t, "policy", "test", cases); err == nil {
		t.Errorf("the house passes a case of the practice: %s", out)
	}
	if out, err := ran(t, "policy", "test", "--policy="+harbor, cases); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestPoliciesAreReadAgainOnHangup(t *testing.T) {
	dir := t.TempDir()
	tenant := func(name string) (int32, bool) { return 7, name == "harbor" }
	log := slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if p, err := openPolicies(ctx, "", tenant, log); err != nil || len(p.Own()) != 0 {
		t.Fatalf("no directory: %v", err)
	}
	put(t, filepath.Join(dir, "harbor", "policy.csv"), "drop, treatment-consent\n")
	p, err := openPolicies(ctx, dir, tenant, log)
	if err != nil {
		t.Fatal(err)
	}
	first := p.Of(7).Policy.Version()
	if first == p.Of(1).Policy.Version() {
		t.Fatal("the practice has the policy of the house")
	}
	hangup := func() {
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	put(t, filepath.Join(dir, "harbor", "policy.csv"), "drop, treatment-consent\ndrop, payment-consent\n")
	hangup()
	changed := func() bool {
		for range 3000 { // a minute
			if p.Of(7).Policy.Version() != first {
				return true
			}
			time.Sleep(20 * time.Millisecond)
		}
		return false
	}
	if !changed() {
		t.Fatal("the new policy is not in force")
	}
	second := p.Of(7).Policy.Version()
	put(t, filepath.Join(dir, "harbor", "policy.csv"), "drop, everything\n")
	hangup()
	time.Sleep(300 * time.Millisecond)
	if p.Of(7).Policy.Version() != second {
		t.Error("a faulty policy replaced the one in force")
	}
	if _, err := openPolicies(ctx, dir, tenant, log); err == nil {
		t.Error("a server starts with a faulty policy")
	}
}
