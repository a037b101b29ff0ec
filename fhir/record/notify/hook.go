package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/cloister-health/cloister/authz/obligation"
	"github.com/cloister-health/cloister/fhir/record/egress"
)

// Hooks posts notifications to the endpoints to which the way out leads, and to no others.
type Hooks struct {
	out    *egress.Guard
	client *http.Client
}

const (
	answerLimit  = 64 << 10 // bytes of an answer that are read, and thrown away
	secretPrefix = "whsec_"
)

// NewHooks sends notifications by that way out. Its Head is to be a minute at least: a client may give its endpoint so long.
func NewHooks(out *egress.Guard) *Hooks { return &Hooks{out, out.Client(0)} }

// Check refuses an endpoint to which nothing is sent. Its text is for the client.
func (h *Hooks) Check(endpoint string, header []Header) error {
	u, err := h.out.Check(endpoint)
	if err != nil {
		return err //nolint:wrapcheck // it is for the client
	}
	if u.Scheme == "http" && slices.ContainsFunc(header, func(x Header) bool { return strings.EqualFold(x.Name, "Authorization") }) {
		return errors.New("the header field Authorization is sent over https only")
	}
	return nil
}

// Send posts a message. Nothing of the answer but its status is looked at.
func (h *Hooks) Send(ctx context.Context, m Message) error {
	if err := h.Check(m.Endpoint, m.Header); err != nil { // the list may be another one than it was
		return errors.New("notify: the endpoint is none any more to which anything may be sent")
	}
	ctx, cancel := context.WithTimeout(ctx, m.Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, m.Endpoint, bytes.NewReader(m.Body))
	if err != nil {
		return errors.New("notify: the endpoint is no URL")
	}
	for _, x := range m.Header {
		r.Header.Add(x.Name, x.Value)
	}
	stamp := strconv.FormatInt(m.At.Unix(), 10)
	r.Header.Set("Content-Type", "application/fhir+json")
	r.Header.Set("User-Agent", "cloister")
	r.Header.Set("webhook-id", m.ID)
	r.Header.Set("webhook-timestamp", stamp)
	r.Header.Set("webhook-signature", Signature(m.ID, stamp, m.Body, m.Keys))
	if m.Noticed {
		r.Header.Set("Redisclosure-Notice", obligation.ShortNotice)
	}
	res, err := h.client.Do(r)
	if err != nil {
		return errors.New("notify: the endpoint cannot be reached") // the cause has its URL, which may hold a secret
	}
	defer func() { _ = res.Body.Close() }() // it was read as far as it matters
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, answerLimit))
	switch {
	case res.StatusCode >= 200 && res.StatusCode < 300:
		return nil
	case res.StatusCode == http.StatusGone:
		return ErrGone
	}
	return fmt.Errorf("notify: the endpoint answered %d", res.StatusCode)
}

// Signature is the value of webhook-signature (Standard Webhooks 1.0): HMAC-SHA256 over id,
// timestamp and body, one for each key.
func Signature(id, stamp string, body []byte, keys [][]byte) string {
	out := make([]string, len(keys))
	for i, k := range keys {
		mac := hmac.New(sha256.New, k)
		_, _ = mac.Write([]byte(id + "." + stamp + ".")) // never fails (hash.Hash)
		_, _ = mac.Write(body)
		out[i] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return strings.Join(out, " ")
}
