package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/smart"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record/envelope"
)

// contents is what of a subscription is sealed: who subscribed, and to what.
type contents struct {
	Principal authz.Frozen    `json:"principal"`
	Resource  json.RawMessage `json:"resource"` // as its client sent it
	Secrets   []secret        `json:"secrets,omitempty"`
}

// secret signs what is sent.
type secret struct {
	Key   []byte    `json:"key"`
	Until time.Time `json:"until,omitzero"` // zero: until another one takes its place
}

// root is the Subscription.
func (c contents) root() (*element.Node, error) {
	n, err := codec.ReadJSON(c.Resource, codec.Limits{})
	if err != nil {
		return nil, errors.New("notify: a kept Subscription does not read")
	}
	return n, nil
}

// keys are the secrets that sign at a moment, the newest first.
func (c contents) keys(now time.Time) (out [][]byte) {
	for _, s := range c.Secrets {
		if s.Until.IsZero() || now.Before(s.Until) {
			out = append(out, s.Key)
		}
	}
	return out
}

// KeyOwner is what the key of a subscription is bound to.
func KeyOwner(tenant int32, id string, owner [32]byte) []byte {
	return append([]byte(fmt.Sprintf("cloister subscription\n%d\n%s\n", tenant, id)), owner[:]...)
}

func keyOwner(s *Subscription) []byte { return KeyOwner(s.Tenant, s.ID, s.Owner) }

var bound = []byte("contents")

// seal makes the key of a subscription, and seals what it is about.
func (s *Service) seal(ctx context.Context, x *Subscription, c contents) error {
	text, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("notify: a Subscription cannot be kept: %w", err)
	}
	key, wrapped, err := s.Keys.NewDataKey(ctx, keyOwner(x))
	if err != nil {
		return unreached(err)
	}
	x.KEK, x.Wrapped = s.Keys.URI(), wrapped
	if x.Sealed, err = key.Seal(text, bound); err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	return nil
}

// open gives what a subscription is about.
func (s *Service) open(ctx context.Context, x *Subscription) (contents, error) {
	var c contents
	key, err := s.held.Get(string(x.Wrapped), s.Now(), func() (*envelope.DataKey, error) {
		return s.Keys.Unwrap(ctx, x.KEK, x.Wrapped, keyOwner(x))
	})
	if err != nil {
		return c, unreached(err)
	}
	text, err := key.Open(x.Sealed, bound)
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil {
		return c, errors.New("notify: a kept Subscription does not open")
	}
	return c, nil
}

func unreached(err error) error {
	return outcome.New(outcome.Unavailable, "the key of the subscription cannot be reached: try again").Because(err)
}

// scopes reads the scopes of a frozen principal.
func scopes(text string) authz.Scopes { return smart.Parse(text) }
