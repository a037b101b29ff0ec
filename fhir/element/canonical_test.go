package element_test

import (
	"testing"

	"github.com/cloister-health/cloister/fhir/codec"
)

func canonical(t *testing.T, body string) string {
	t.Helper()
	n, err := codec.ReadJSON([]byte(body), codec.Limits{})
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return string(n.AppendCanonical(nil))
}

func TestCanonical(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"names are sorted, at every depth", `{"b":[{"z":1,"a":2}],"a":{"d":null,"c":true}}`, `{"a":{"c":true,"d":null},"b":[{"a":2,"z":1}]}`},
		{"by their UTF-16 code units (RFC 8785, 3.2.3)", `{"\ufb33":1,"\ud83d\ude02":2,"\u20ac":3,"1":4}`, "{\"1\":4,\"\u20ac\":3,\"\U0001f602\":2,\"\ufb33\":1}"},
		{"lists keep their order", `[3,1,2]`, `[3,1,2]`},
		{"white space goes", "{ \"a\" :\n [ 1 , 2 ] }", `{"a":[1,2]}`},
		{"strings have the shortest escapes", `"\u0061\u002f\"\\\n\r\t<&é"`, `"a/\"\\\n\r\t<&é"`},
		{"a decimal keeps its precision", `[1.0,1.50,0.100]`, `[1.0,1.50,0.100]`},
		{"and loses its exponent", `[1e2,1.5E+1,1.50e1,12e-1,1E-3,0e5]`, `[100,15,15.0,1.2,0.001,0]`},
		{"there is one zero of each precision", `[-0,-0.0,0.0,-1.0]`, `[0,0.0,0.0,-1.0]`},
		{"a number that no exponent can be written out for stays", `1e100000`, `1e100000`},
	} {
		if got := canonical(t, c.in); got != c.want {
			t.Errorf("%s: %s is\n%s, want\n%s", c.name, c.in, got, c.want)
		}
		if again := canonical(t, canonical(t, c.in)); again != c.want {
			t.Errorf("%s: the canonical form of a canonical form is %s", c.name, again)
		}
	}
}
