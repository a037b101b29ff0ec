package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

const socketed = `{"resourceType":"Subscription","status":"requested","reason":"x","criteria":"https://cloister.health/fhir/SubscriptionTopic/resource-change",
"_criteria":{"extension":[{"url":"http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-filter-criteria","valueString":"Observation"}]},
"channel":{"type":"websocket","payload":"application/fhir+json","_payload":{"extension":[{"url":"http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-payload-content","valueCode":"id-only"}]}}}`

// A client that has no endpoint is told by websocket: a token binds its subscriptions to a connection.
func TestSubscriptionsByWebsocket(t *testing.T) {
	c, s, _ := newNotify(t)
	server := httptest.NewServer(c.Handler)
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	w := ask(t, c, "POST", "/fhir/Subscription", "exchange", socketed)
	if w.Code != 201 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	place := below(t, w.Header().Get("Location"))
	type parameters struct {
		Parameter []struct {
			Name, ValueString, ValueDateTime string
			ValueURL                         string `json:"valueUrl"`
		}
	}
	token := func(path, who string) string {
		t.Helper()
		w := ask(t, c, "GET", path+"/$get-ws-binding-token", who, "")
		var p parameters
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != 200 || len(p.Parameter) != 4 || p.Parameter[3].ValueURL != "wss://clinic.example/fhir/_ws" || p.Parameter[1].ValueDateTime == "" || "/fhir/Subscription/"+p.Parameter[2].ValueString != place {
			t.Fatalf("%v %d %s", err, w.Code, w.Body)
		}
		return p.Parameter[0].ValueString
	}
	if w := ask(t, c, "GET", place+"/$get-ws-binding-token", "other-exchange", ""); w.Code != 404 {
		t.Errorf("another's: %d", w.Code)
	}
	if w := ask(t, c, "GET", "/fhir/Subscription/$get-ws-binding-token", "other-exchange", ""); w.Code != 422 {
		t.Errorf("of nothing: %d", w.Code)
	}
	dial := func(say string) *websocket.Conn {
		t.Helper()
		conn, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(server.URL, "http")+"/fhir/_ws", nil) //nolint:bodyclose // a websocket has none
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Write(ctx, websocket.MessageText, []byte(say)); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	hear := func(conn *websocket.Conn) string {
		t.Helper()
		_ = s.Subscriptions.Sequence(ctx)
		_, b, err := conn.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, say := range []string{"bind-with-token nothing", "hello", "bind-with-token " + strings.Repeat("x", 5000)} {
		conn := dial(say)
		if _, b, err := conn.Read(ctx); err == nil || websocket.CloseStatus(err) == websocket.StatusNormalClosure {
			t.Errorf("%.30s: %s", say, b)
		}
	}
	conn := dial("bind-with-token " + token(place, "exchange"))
	if got := hear(conn); !strings.Contains(got, `"valueCode":"handshake"`) || !strings.Contains(got, `"valueCode":"requested"`) {
		t.Errorf("handshake: %s", got)
	}
	id := c.create(t, "colleague", observation("Patient/bert", ""))
	if got := hear(conn); !strings.Contains(got, `"event-notification"`) || !strings.Contains(got, `"event-number","valueString":"1"`) {
		t.Errorf("event of %s: %s", id, got)
	}
	if err := conn.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
	// What happens while nobody is connected waits.
	c.create(t, "colleague", observation("Patient/bert", ""))
	conn = dial("bind-with-token " + token("/fhir/Subscription", "exchange"))
	defer func() { _ = conn.CloseNow() }()
	if got := hear(conn); !strings.Contains(got, `"valueCode":"handshake"`) || !strings.Contains(got, `"valueCode":"active"`) {
		t.Errorf("handshake: %s", got)
	}
	if got := hear(conn); !strings.Contains(got, `"event-number","valueString":"2"`) {
		t.Errorf("event: %s", got)
	}
	// A page of another origin gets no connection, and other methods and paths are what they were.
	r := httptest.NewRequest(http.MethodGet, "/fhir/_ws", nil)
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "websocket")
	r.Header.Set("Sec-WebSocket-Version", "13")
	r.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	r.Header.Set("Origin", "https://evil.example")
	rec := httptest.NewRecorder()
	c.Handler.ServeHTTP(rec, r)
	if rec.Code != 403 {
		t.Errorf("another origin: %d", rec.Code)
	}
	if w := ask(t, c, "POST", "/fhir/_ws", "exchange", ""); w.Code == 101 || w.Code == 200 {
		t.Errorf("POST: %d", w.Code)
	}
}
