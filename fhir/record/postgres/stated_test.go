package postgres_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
)

// security is a meta with security labels of v3-ActCode, as observation takes it.
func security(codes ...string) string {
	if len(codes) == 0 {
		return ""
	}
	items := make([]string, len(codes))
	for i, c := range codes {
		items[i] = "{'system':'http://terminology.hl7.org/CodeSystem/v3-ActCode','code':'" + c + "'}"
	}
	return ",'meta':{'security':[" + strings.Join(items, ",") + "]}"
}

// query reads one row of the database as its owner.
func (h *house) query(sql string, args []any, into ...any) {
	h.t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, h.dsn)
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if err := conn.QueryRow(ctx, sql, args...).Scan(into...); err != nil {
		h.t.Fatalf("%s: %v", sql, err)
	}
}

// labels are those of the stored row.
func (h *house) labels(ref fhir.Ref) label.Set {
	h.t.Helper()
	var bits int32
	h.query("SELECT c.labels FROM (SELECT * FROM record.resource UNION ALL SELECT * FROM notes.resource) r JOIN record.label_class c ON c.id = r.label_class WHERE r.type = $1 AND r.id = $2",
		[]any{ref.Type.Code(), string(ref.ID)}, &bits)
	return label.Set(bits)
}

// What a sender states about sensitivity and law adds to what the content says,
// takes nothing from it, and is not stored as part of the resource.
func TestStatedLabelsOnlyRaise(t *testing.T) {
	h := clinic(t)
	dora, hie := h.as("therapist", "TREAT", "Practitioner/dora"), h.as("hie", "TREAT", "")
	own := label.PSY | label.MH // of the PHQ-9
	document := "{'resourceType':'DocumentReference','status':'current','content':[{'attachment':{'contentType':'text/plain','data':'eA=='}}]%}"
	for name, c := range map[string]struct {
		codes          []string
		want, document label.Set
	}{
		"nothing":              {nil, own, 0},
		"sensitivity":          {[]string{"HIV"}, own | label.HIV, label.HIV},
		"what it is already":   {[]string{"PSY"}, own, label.PSY},
		"a program's record":   {[]string{"42CFRPart2"}, own | label.Received, label.Received},
		"no note of a session": {[]string{"PSYTHPN"}, own, own},
		"unknown":              {[]string{"NORDSCLCD", "HIPAANOPP"}, own, 0},
	} {
		ref := h.mustCreate(dora, observation(security(c.codes...)))
		if got := h.labels(ref); got != c.want {
			t.Errorf("%s: an Observation is %s, want %s", name, got, c.want)
		}
		if body, err := h.read(dora, ref); err != nil || strings.Contains(body, "security") {
			t.Errorf("%s: stored with what was stated: %v\n%s", name, err, body)
		}
		ref = h.mustCreate(hie, strings.Replace(document, "%", security(c.codes...), 1))
		if got := h.labels(ref); got != c.document {
			t.Errorf("%s: a document from an exchange is %s", name, got)
		}
	}
	// The operator's import, and a label inside a contained resource.
	ref := h.load(strings.Replace(observation(security("42CFRPart2", "SUD")), "{", "{'id':'in',", 1))
	if got := h.labels(ref); got != own|label.Received|label.SUD {
		t.Errorf("imported as %s", got)
	}
	// A proxy sees no more than before, and the exchange no longer what it reported.
	if ref := h.mustCreate(dora, observation(security("HIV"))); h.sees(hie, ref) {
		t.Error("a stated label does not protect")
	}
	if ref := h.mustCreate(dora, observation("")); !h.sees(hie, ref) {
		t.Error("without a stated label the exchange sees it")
	}
}

// Stating nothing, or less, takes no label away; and a record that goes back and
// forth with the label under which it was read is not one that was received.
func TestStatedLabelsOnUpdate(t *testing.T) {
	h := clinic(t)
	dora := h.as("therapist", "TREAT", "Practitioner/dora")
	ref := h.mustCreate(dora, observation(security("HIV")))
	text := strings.Replace(observation(""), "{", "{'id':'"+string(ref.ID)+"',", 1)
	for _, meta := range []string{"", security("U"), security("42CFRPart2"), security("HIV")} {
		if _, err := h.update(dora, strings.TrimSuffix(text, "}")+meta+"}"); err != nil {
			t.Fatal(err)
		}
		if got := h.labels(ref); got != label.PSY|label.MH|label.HIV {
			t.Errorf("after an update that states %q it is %s", meta, got)
		}
	}
	if _, err := h.update(dora, strings.TrimSuffix(text, "}")+security("SDV")+"}"); err != nil || !h.labels(ref).Has(label.SDV) {
		t.Errorf("an update cannot raise: %v", err)
	}
}
