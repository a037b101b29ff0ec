package envelope_test

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir/record/envelope"
	"github.com/cloister-health/cloister/fhir/record/envelope/envelopetest"
)

func TestStreamsOpenForTheirOwnerAndPlaceAndToTheirEnd(t *testing.T) {
	ctx := context.Background()
	keys := envelopetest.Keys()
	key, wrapped, err := keys.NewStreamKey(ctx, []byte("job 1"))
	if err != nil {
		t.Fatal(err)
	}
	said := strings.Repeat("she said\n", 300_000) // of several segments
	var text bytes.Buffer
	w, err := key.Seal(&text, []byte("part 1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, said); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(text.Bytes(), []byte("said")) {
		t.Fatal("it is not encrypted")
	}
	again, err := keys.UnwrapStream(ctx, keys.URI(), wrapped, []byte("job 1"))
	if err != nil {
		t.Fatal(err)
	}
	read := func(stored []byte, bound string) (string, error) {
		r, err := again.Open(bytes.NewReader(stored), []byte(bound))
		if err != nil {
			return "", err
		}
		got, err := io.ReadAll(r)
		return string(got), err
	}
	if got, err := read(text.Bytes(), "part 1"); err != nil || got != said {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if _, err := read(text.Bytes(), "part 2"); err == nil {
		t.Error("it opens in another place")
	}
	if _, err := read(text.Bytes()[:text.Len()-1], "part 1"); err == nil {
		t.Error("it opens although its end is missing")
	}
	changed := bytes.Clone(text.Bytes())
	changed[len(changed)/2] ^= 1
	if _, err := read(changed, "part 1"); err == nil {
		t.Error("it opens although it was changed")
	}
	if _, err := keys.UnwrapStream(ctx, keys.URI(), wrapped, []byte("job 2")); err == nil {
		t.Error("the key opens for another owner")
	}
	other := envelope.New(keys.URI(), envelopetest.Primitive("another"))
	if _, err := other.UnwrapStream(ctx, keys.URI(), wrapped, []byte("job 1")); err == nil {
		t.Error("the key opens with another key encryption key")
	}
}
