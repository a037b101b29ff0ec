package notify

import (
	"context"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
)

// Topic is something that can be subscribed to. It is named by its canonical url; R4 knows no
// resource for it (Subscriptions R5 Backport, "Subscription Topics").
type Topic struct {
	URL  string
	Text string
	// Type is what it is about; "" is whatever the filters name.
	Type fhir.ResourceType
	// enters are the codes of status that a resource must take on, coming from none of leaves;
	// nil: any change will do.
	enters, leaves []string
}

const topics = fhir.Canonical + "/SubscriptionTopic/"

// Topics are those of this server.
var Topics = []Topic{
	{URL: topics + "resource-change", Text: "a resource was created, updated or deleted; each type needs a filter that names it"},
	{URL: topics + "encounter-start", Text: "an Encounter began", Type: "Encounter", enters: []string{"in-progress"}, leaves: []string{"in-progress", "onleave"}},
	{URL: topics + "encounter-end", Text: "an Encounter was finished", Type: "Encounter", enters: []string{"finished"}, leaves: []string{"finished"}},
}

func topicOf(url string) (Topic, bool) {
	for _, t := range Topics {
		if t.URL == url {
			return t, true
		}
	}
	return Topic{}, false
}

// selects reports whether a version is an event of the topic. before is the version before it as
// the subscriber may see it, if it may.
func (t Topic) selects(ctx context.Context, x record.Sealed, before func() (record.Sealed, bool, error)) (bool, error) {
	if t.enters == nil {
		return true, nil
	}
	if vault.Head(x).Deleted {
		return false, nil
	}
	now, err := statusOf(ctx, x)
	if err != nil || !contains(t.enters, now) {
		return false, err
	}
	old, ok, err := before()
	if err != nil || !ok || vault.Head(old).Deleted {
		return err == nil, err
	}
	was, err := statusOf(ctx, old)
	return err == nil && !contains(t.leaves, was), err
}

func contains(list []string, x string) bool {
	for _, y := range list {
		if x == y {
			return true
		}
	}
	return false
}

// statusOf reads the status of a sealed resource; it goes no further than that.
func statusOf(ctx context.Context, x record.Sealed) (string, error) {
	body, err := vault.Open(ctx, x)
	if err != nil {
		return "", err
	}
	root, err := codec.ReadJSON(body, codec.Limits{})
	if err != nil {
		return "", err
	}
	return root.Get("status").String(), nil
}
