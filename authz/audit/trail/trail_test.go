package trail_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz/audit/trail"
)

func create(t *testing.T, older *trail.Keys) (*trail.Keys, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	if err := trail.Create(path, older); err != nil {
		t.Fatal(err)
	}
	k, err := trail.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return k, path
}

// A key that takes the place of another one checks what that one signed and marked; not the other way round.
func TestKeysRotate(t *testing.T) {
	older, _ := create(t, nil)
	newer, _ := create(t, older)
	layout := trail.NewLayout(trail.Event, []string{"id", "subject", "seq", "mac"})
	row := [][]byte{{1}, []byte("x"), {7}, nil}
	marked := func(k *trail.Keys) [][]byte { return [][]byte{row[0], row[1], row[2], k.Mac(layout, row)} }
	if !newer.Wrote(layout, marked(older)) || !newer.Wrote(layout, marked(newer)) || older.Wrote(layout, marked(newer)) {
		t.Error("marks")
	}
	was, err := older.Sign(trail.Checkpoint{Number: 1, At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	is, err := newer.Sign(trail.Checkpoint{Number: 2, At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if c, err := newer.Open(was); err != nil || c.Number != 1 || c.Key != older.ID() {
		t.Errorf("%+v %v", c, err)
	}
	if _, err := older.Open(is); !errors.Is(err, trail.ErrForged) {
		t.Errorf("a key of the future: %v", err)
	}
	is.Body = strings.Replace(is.Body, `"number":2`, `"number":3`, 1)
	if _, err := newer.Open(is); !errors.Is(err, trail.ErrForged) {
		t.Errorf("another text: %v", err)
	}
	public, err := newer.Public()
	if err != nil {
		t.Fatal(err)
	}
	k, err := trail.Parse(public)
	if err != nil || k.CanSign() || k.HoldsSecret() || bytes.Contains(public, []byte(`"d"`)) {
		t.Errorf("%s %v", public, err)
	}
	if _, err := k.Open(was); err != nil {
		t.Error(err)
	}
	if _, err := k.Sign(trail.Checkpoint{}); err == nil {
		t.Error("public keys sign")
	}
}

// What a row says is in its mark and its digest, by the name of the column; where it stands is in the digest alone, and NULL in neither.
func TestDigestsOfRows(t *testing.T) {
	k, _ := create(t, nil)
	names := []string{"a", "b", "seq", "mac"}
	layout := trail.NewLayout(trail.Event, names)
	row := [][]byte{[]byte("1"), []byte("2"), {7}, {9}}
	mac, digest := k.Mac(layout, row), layout.Digest(row)
	for i := range names {
		other := append([][]byte{}, row...)
		other[i] = []byte("12")
		if layout.Digest(other) == digest {
			t.Errorf("%s is not in the digest", names[i])
		}
		if same := bytes.Equal(k.Mac(layout, other), mac); same != (i >= 2) {
			t.Errorf("%s is in the mark: %v", names[i], !same)
		}
	}
	if trail.NewLayout(trail.Security, names).Digest(row) == digest {
		t.Error("the table is not in the digest")
	}
	if layout.Digest([][]byte{[]byte("2"), []byte("1"), {7}, {9}}) == digest || layout.Digest([][]byte{[]byte("12"), {}, {7}, {9}}) == digest {
		t.Error("values may change their places")
	}
	later := trail.NewLayout(trail.Event, []string{"new", "mac", "b", "a", "seq"})
	if later.Digest([][]byte{nil, {9}, []byte("2"), []byte("1"), {7}}) != digest {
		t.Error("a column that is NULL, or the order of the columns, changes the digest")
	}
	if later.Digest([][]byte{{}, {9}, []byte("2"), []byte("1"), {7}}) == digest {
		t.Error("an empty value counts as none")
	}
}

func TestKeySetsThatAreRefused(t *testing.T) {
	_, path := create(t, nil)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, other := create(t, nil)
	text2, err := os.ReadFile(other)
	if err != nil {
		t.Fatal(err)
	}
	field := func(text []byte, name string) string {
		_, rest, _ := strings.Cut(string(text), `"`+name+`": "`)
		value, _, _ := strings.Cut(rest, `"`)
		return value
	}
	for name, bad := range map[string]string{
		"empty": "", "no keys": `{"keys":[]}`, "a list": "[]", "more behind": string(text) + "{}", "another curve": strings.Replace(string(text), "Ed25519", "Ed448", 1),
		"halves of two": strings.Replace(string(text), field(text, "d"), field(text2, "d"), 1), "another id": strings.Replace(string(text), field(text, "kid"), field(text2, "kid"), 1), "unknown": strings.Replace(string(text), `"kty"`, `"use": "sig", "kty"`, 1),
	} {
		if _, err := trail.Parse([]byte(bad)); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := trail.ReadFile(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a private key that others can read: %v", err)
	}
	if err := trail.Create(path, nil); err == nil {
		t.Error("a key file is replaced")
	}
}
