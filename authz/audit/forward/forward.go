// Package forward tells systems elsewhere what was recorded in the audit trail, without a word about patients and people.
package forward

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cloister-health/cloister/authz/audit"
)

// Message is what goes out of one row. There is nothing in it of whom it was about, of who it was, or of where she was: who may know looks
// the row up by its id.
type Message struct {
	Seq      int64     `json:"seq"` // of the row: the same one when a message comes twice
	ID       string    `json:"id"`  // of the event
	At       time.Time `json:"at"`
	Kind     string    `json:"kind"`     // event, security or downgrade
	Name     string    `json:"name"`     // the interaction, or the kind of the security event
	Practice int32     `json:"practice"` // 0: none
	Outcome  string    `json:"outcome"`  // 0: done, 4: refused
	Type     string    `json:"type,omitempty"`
	Client   string    `json:"client,omitempty"`
	Purpose  string    `json:"purpose,omitempty"`
	Policy   string    `json:"policy,omitempty"` // its version; of a downgrade that of the rules
	Reason   string    `json:"reason,omitempty"`
	Entities int       `json:"entities"` // how many records
}

func (m Message) text() []byte {
	b, err := json.Marshal(m)
	if err != nil { // of a moment beyond the calendar, which no server writes
		m.At = time.Time{}
		b, _ = json.Marshal(m) //nolint:errchkjson // strings, numbers and that moment
	}
	return b
}

func (m Message) refused() bool { return m.Outcome != string(audit.Success) }

// Receiver takes messages.
type Receiver interface {
	// Send returns nil when all messages have arrived, as far as the protocol lets one know.
	Send(ctx context.Context, list []Message) error
}

// timeout is how long one delivery may take.
const timeout = 20 * time.Second

// schemes are how addresses of receivers begin.
var schemes = []string{"syslog+tls", "syslog+tcp", "syslog+udp", "otlp+https", "otlp+http"}

// Check reports what is wrong with the address of a receiver.
func Check(address string) error {
	_, err := parse(address)
	return err
}

func parse(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil || !slices.Contains(schemes, u.Scheme) || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
		strings.HasPrefix(u.Scheme, "syslog") && (u.Path != "" || u.Port() == "") {
		return nil, fmt.Errorf("%q is no address of a receiver: write syslog+tls://host:6514, syslog+tcp://host:601, syslog+udp://host:514 or otlp+https://host:4318/v1/logs", address)
	}
	return u, nil
}

// Open gives the receiver at an address. It connects when it sends.
func Open(address string) (Receiver, error) {
	u, err := parse(address)
	if err != nil {
		return nil, err
	}
	family, way, _ := strings.Cut(u.Scheme, "+")
	if family == "otlp" {
		u.Scheme = way
		if u.Path == "" || u.Path == "/" {
			u.Path = "/v1/logs"
		}
		return newOTLP(u.String()), nil
	}
	return newSyslog(way, u.Host, u.Hostname()), nil
}
