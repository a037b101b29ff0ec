package search

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
)

var (
	testKey = [32]byte{1, 2, 3}
	testAt  = Cursor{Keys: []Key{{Text: "2024-05-06T07:08:09.123456Z"}, {Null: true}}, Type: "Observation", ID: "obs-1"}
	// testNow is within the life of the tokens made here.
	testNow, testEnd = time.Unix(1_700_000_000, 0), time.Unix(1_700_003_600, 0)
)

func TestCursorRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := Cursor{
			Keys: rapid.SliceOf(rapid.Custom(func(rt *rapid.T) Key { return Key{rapid.Bool().Draw(rt, "null"), rapid.String().Draw(rt, "key")} })).Draw(rt, "keys"),
			Type: "Observation", Backward: rapid.Bool().Draw(rt, "backward"),
			ID: fhir.ID(rapid.StringMatching(`[A-Za-z0-9.-]{1,64}`).Draw(rt, "id")),
		}
		binding := rapid.SliceOf(rapid.Byte()).Draw(rt, "binding")
		token := EncodeCursor(testKey, binding, c, testEnd)
		if token != EncodeCursor(testKey, binding, c, testEnd) {
			rt.Fatal("the same place gives two tokens")
		}
		got, err := DecodeCursor(testKey, binding, token, testNow)
		if err != nil || !cmp.Equal(got, c, cmpopts.EquateEmpty()) {
			rt.Fatalf("%v %v", got, err)
		}
	})
}

func TestCursorIsRefused(t *testing.T) {
	binding := []byte("therapist|TREAT|v7|Observation?code=x")
	token := EncodeCursor(testKey, binding, testAt, testEnd)
	refused := func(name string, key [32]byte, binding []byte, token string) {
		t.Helper()
		_, err := DecodeCursor(key, binding, token, testNow)
		if err == nil {
			t.Errorf("%s was accepted", name)
			return
		}
		o := outcome.Of(err)
		if o.Status() != 400 || o.Error() != "this page link is not valid here: start the search again" {
			t.Errorf("%s: %d %s", name, o.Status(), o.Error())
		}
	}
	otherKey := testKey
	otherKey[31]++
	refused("another key", otherKey, binding, token)
	refused("another binding", testKey, append(bytes.Clone(binding), 'x'), token)
	refused("no binding", testKey, nil, token)
	refused("nothing", testKey, binding, "")
	refused("a shorter token", testKey, binding, token[:len(token)-1])
	refused("a longer token", testKey, binding, token+"A")
	refused("a line end", testKey, binding, token[:5]+"\n"+token[5:])
	refused("padding", testKey, binding, token+"=")
	refused("a huge token", testKey, binding, strings.Repeat("A", 1<<20))
	for i := range len(token) {
		for _, c := range []byte("A_9") {
			if token[i] != c {
				refused("a changed character", testKey, binding, token[:i]+string(c)+token[i+1:])
			}
		}
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		for bit := range 8 {
			x := bytes.Clone(raw)
			x[i] ^= 1 << bit
			refused("a flipped bit", testKey, binding, base64.RawURLEncoding.EncodeToString(x))
		}
	}
	if bytes.Contains(raw, []byte(testAt.ID)) {
		t.Error("the token shows the id")
	}
	// Sealed with the right key, but not what EncodeCursor makes.
	refused("no id", testKey, binding, EncodeCursor(testKey, binding, Cursor{}, testEnd))
	refused("a bad id", testKey, binding, EncodeCursor(testKey, binding, Cursor{ID: "a/b"}, testEnd))
}

func TestCursorExpires(t *testing.T) {
	token := EncodeCursor(testKey, nil, testAt, testEnd)
	_, err := DecodeCursor(testKey, nil, token, testEnd)
	if err == nil || outcome.Of(err).Error() != "this page link has expired: start the search again" {
		t.Errorf("at its end: %v", err)
	}
	if _, err := DecodeCursor(testKey, nil, token, testEnd.Add(-time.Second)); err != nil {
		t.Errorf("before its end: %v", err)
	}
}

func FuzzDecodeCursor(f *testing.F) {
	binding := []byte("b")
	good := EncodeCursor(testKey, binding, testAt, testEnd)
	f.Add(good)
	f.Add(good[:len(good)-2])
	f.Add("")
	f.Add("AAAA\nBBBB")
	f.Fuzz(func(t *testing.T, token string) {
		c, err := DecodeCursor(testKey, binding, token, testNow)
		if err == nil && (EncodeCursor(testKey, binding, c, testEnd) != token || token != good) {
			t.Fatalf("a token that was never made was accepted: %q", token)
		}
	})
}
