package forward

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// otlp sends log records over OTLP/HTTP in its JSON encoding (https://opentelemetry.io/docs/specs/otlp/#otlphttp).
//
// The SDK of OpenTelemetry is not used: its batches are dropped when a queue is full, and what it brings along (protobuf, gRPC, a
// gateway) outweighs this file a thousand times. Here a delivery is one request, which has arrived when it was answered.
type otlp struct {
	url    string
	client *http.Client
	now    func() time.Time
}

func newOTLP(url string) *otlp {
	return &otlp{url, &http.Client{
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, time.Now}
}

type (
	otlpValue struct {
		String *string `json:"stringValue,omitempty"`
		Int    *string `json:"intValue,omitempty"` // 64 bits are strings in the JSON of protobuf
	}
	otlpAttribute struct {
		Key   string    `json:"key"`
		Value otlpValue `json:"value"`
	}
	otlpRecord struct {
		Time       string          `json:"timeUnixNano"`
		Observed   string          `json:"observedTimeUnixNano"`
		Severity   int             `json:"severityNumber"`
		Text       string          `json:"severityText"`
		Body       otlpValue       `json:"body"`
		Attributes []otlpAttribute `json:"attributes"`
	}
	otlpScope struct {
		Scope struct {
			Name string `json:"name"`
		} `json:"scope"`
		Records []otlpRecord `json:"logRecords"`
	}
	otlpResource struct {
		Resource struct {
			Attributes []otlpAttribute `json:"attributes"`
		} `json:"resource"`
		Scopes []otlpScope `json:"scopeLogs"`
	}
	otlpRequest struct {
		Resources []otlpResource `json:"resourceLogs"`
	}
	otlpResponse struct {
		Partial struct {
			Rejected json.RawMessage `json:"rejectedLogRecords"`
		} `json:"partialSuccess"`
	}
)

func text(key, value string) otlpAttribute { return otlpAttribute{key, otlpValue{String: &value}} }

func number(key string, n int64) otlpAttribute {
	s := strconv.FormatInt(n, 10)
	return otlpAttribute{key, otlpValue{Int: &s}}
}

func (o *otlp) encode(list []Message) ([]byte, error) {
	scope := otlpScope{}
	scope.Scope.Name = "cloister.audit"
	observed := strconv.FormatInt(o.now().UnixNano(), 10)
	for _, m := range list {
		r := otlpRecord{Time: strconv.FormatInt(m.At.UnixNano(), 10), Observed: observed, Severity: 9, Text: "INFO"}
		if m.refused() {
			r.Severity, r.Text = 13, "WARN"
		}
		body := m.Kind + " " + m.Name
		r.Body.String = &body
		r.Attributes = []otlpAttribute{number("cloister.audit.seq", m.Seq), text("cloister.audit.id", m.ID), text("cloister.audit.kind", m.Kind), text("cloister.audit.name", m.Name), number("cloister.audit.practice", int64(m.Practice)), text("cloister.audit.outcome", m.Outcome), number("cloister.audit.entities", int64(m.Entities))}
		for key, value := range map[string]string{"type": m.Type, "client": m.Client, "purpose": m.Purpose, "policy": m.Policy, "reason": m.Reason} {
			if value != "" {
				r.Attributes = append(r.Attributes, text("cloister.audit."+key, value))
			}
		}
		scope.Records = append(scope.Records, r)
	}
	resource := otlpResource{Scopes: []otlpScope{scope}}
	resource.Resource.Attributes = []otlpAttribute{text("service.name", "cloister")}
	b, err := json.Marshal(otlpRequest{[]otlpResource{resource}})
	if err != nil {
		return nil, fmt.Errorf("forward: %w", err)
	}
	return b, nil
}

// errRejected says that the collector took only a part, and will take no more of it when asked again.
var errRejected = errors.New("forward: the collector rejected log records for good")

// Rejected reports whether it is of no use to send the same messages again.
func Rejected(err error) bool { return errors.Is(err, errRejected) }

func (o *otlp) Send(ctx context.Context, list []Message) error {
	body, err := o.encode(list)
	if err != nil {
		return err
	}
	rq, err := http.NewRequestWithContext(ctx, http.MethodPost, o.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("forward: %w", err)
	}
	rq.Header.Set("Content-Type", "application/json")
	res, err := o.client.Do(rq)
	if err != nil {
		return fmt.Errorf("forward: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 1<<16))
	if err != nil {
		return fmt.Errorf("forward: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("forward: the collector answers %d", res.StatusCode)
	}
	var partial otlpResponse
	if json.Unmarshal(answer, &partial) == nil {
		if n := string(bytes.Trim(partial.Partial.Rejected, `"`)); n != "" && n != "0" && n != "null" {
			return errRejected
		}
	}
	return nil
}
