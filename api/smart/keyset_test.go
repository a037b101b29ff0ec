package smart

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

func fixed() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

func TestKeySetsAreFetchedFromPublicAddressesAlone(t *testing.T) {
	for _, text := range []string{
		"127.0.0.1", "::1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "::", "fc00::1", "fe80::1", "::ffff:10.0.0.1", "224.0.0.1",
		"64:ff9b::a00:1", "2001:db8::1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "2002:a00:1::",
	} {
		if public(netip.MustParseAddr(text)) {
			t.Errorf("%s", text)
		}
	}
	for _, text := range []string{"8.8.8.8", "2606:4700:4700::1111"} {
		if !public(netip.MustParseAddr(text)) {
			t.Errorf("%s", text)
		}
	}
	asked := false
	srv := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer srv.Close()
	if _, err := newKeySets(keyClient(nil), fixed).get(t.Context(), srv.URL, false); err == nil || asked {
		t.Error("a key set of this machine was asked for")
	}
	if _, err := newKeySets(http.DefaultClient, fixed).get(t.Context(), "http://example.org/keys", false); err == nil {
		t.Error("a key set was fetched over http")
	}
}

// keyServer publishes keys, counts, redirects, and fails.
type keyServer struct {
	*httptest.Server
	body  atomic.Value
	count atomic.Int64
	fail  atomic.Bool
}

func newKeyServer(t *testing.T) *keyServer {
	t.Helper()
	k := &keyServer{}
	k.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		k.count.Add(1)
		if r.URL.Path == "/redirect" {
			http.Redirect(w, r, "/keys", http.StatusFound)
			return
		}
		if k.fail.Load() {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		text, _ := k.body.Load().([]byte)
		_, _ = w.Write(text)
	}))
	t.Cleanup(k.Close)
	return k
}

func (k *keyServer) publish(t *testing.T, kid string) {
	t.Helper()
	r := &Ring{box: plainBox{}}
	made, err := r.make(ForAccess, fixed(), fixed())
	if err != nil {
		t.Fatal(err)
	}
	var key jose.JSONWebKey
	if err := json.Unmarshal(made.Public, &key); err != nil {
		t.Fatal(err)
	}
	key.KeyID = kid
	text, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key}})
	if err != nil {
		t.Fatal(err)
	}
	k.body.Store(text)
}

// plainBox seals nothing: what it holds is never stored.
type plainBox struct{}

func (plainBox) Seal(plain []byte, _ string) []byte           { return plain }
func (plainBox) Open(sealed []byte, _ string) ([]byte, error) { return sealed, nil }

func TestKeySetsAreKept(t *testing.T) {
	srv := newKeyServer(t)
	srv.publish(t, "one")
	now := fixed()
	client := srv.Client()
	client.CheckRedirect = keyClient(nil).CheckRedirect
	sets := newKeySets(client, func() time.Time { return now })
	get := func(again bool) (string, error) {
		set, err := sets.get(context.Background(), srv.URL+"/keys", again)
		if err != nil || len(set.Keys) == 0 {
			return "", err
		}
		return set.Keys[0].KeyID, nil
	}
	want := func(why string, again bool, kid string, asked int64) {
		t.Helper()
		got, err := get(again)
		if got != kid || (kid == "") != (err != nil) || srv.count.Load() != asked {
			t.Errorf("%s: %q %v, asked %d times", why, got, err, srv.count.Load())
		}
	}
	want("first", false, "one", 1)
	want("again", false, "one", 1)
	srv.publish(t, "two")
	want("a missing key, at once", true, "one", 1)
	now = now.Add(keySetPause)
	want("a missing key, later", true, "two", 2)
	srv.fail.Store(true)
	now = now.Add(keySetFresh)
	want("it is down", false, "two", 3)
	want("it is down, at once", false, "two", 3)
	now = now.Add(keySetOld + time.Second)
	want("it is down for long", false, "", 4)
	srv.fail.Store(false)
	now = now.Add(keySetPause)
	want("it is back", false, "two", 5)
	if _, err := sets.get(context.Background(), srv.URL+"/redirect", false); err == nil {
		t.Error("a redirect was followed")
	}
	srv.body.Store([]byte(`{"keys":[{"kty":"oct","k":"AAAA","kid":"x"}]}`))
	if _, err := newKeySets(client, fixed).get(context.Background(), srv.URL+"/keys", false); err == nil {
		t.Error("a secret key was taken")
	}
}

func TestAddressBehindProxies(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")}
	for _, c := range []struct{ remote, forwarded, want string }{
		{"198.51.100.1:5", "", "198.51.100.1"},
		{"198.51.100.1:5", "203.0.113.9", "198.51.100.1"}, // anybody can write that
		{"127.0.0.1:5", "203.0.113.9", "203.0.113.9"},
		{"127.0.0.1:5", "6.6.6.6, 203.0.113.9, 10.0.0.2", "203.0.113.9"},
		{"127.0.0.1:5", "6.6.6.6, nonsense", "127.0.0.1"},
		{"127.0.0.1:5", "", "127.0.0.1"},
		{"[::ffff:127.0.0.1]:5", "203.0.113.9", "203.0.113.9"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
		r.RemoteAddr = c.remote
		if c.forwarded != "" {
			r.Header.Set("X-Forwarded-For", c.forwarded)
		}
		if got := Address(trusted)(r).String(); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func TestCovers(t *testing.T) {
	for _, c := range []struct {
		have, asked string
		want        bool
	}{
		{"patient/*.rs", "patient/Observation.rs", true},
		{"patient/*.rs", "patient/Observation.read", true},
		{"patient/*.read", "patient/*.s", true},
		{"patient/*.rs", "patient/Observation.cruds", false},
		{"patient/*.rs", "user/Observation.rs", false},
		{"user/*.rs", "patient/Observation.rs", false},
		{"patient/Observation.rs", "patient/*.rs", false},
		{"patient/Observation.rs", "patient/Observation.rs?category=laboratory", true},
		{"patient/Observation.rs?category=laboratory", "patient/Observation.rs", false},
		{"patient/Observation.rs?category=laboratory", "patient/Observation.rs?category=laboratory", true},
		{"patient/Observation.rs?category=laboratory", "patient/Observation.rs?category=vital-signs", false},
		{"patient/Observation.sr", "patient/Observation.s", false},
		{"openid", "openid", true},
		{"openid", "profile", false},
		{"launch", "launch/patient", false},
	} {
		if got := covers(c.have, c.asked); got != c.want {
			t.Errorf("%s covers %s: %v", c.have, c.asked, got)
		}
	}
}
