package record

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/consent"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
	"github.com/cloister-health/cloister/fhir/signature"
)

// SignatureState says what became of a signature, or of a Consent's signatures.
type SignatureState string

// The states of one signature: it holds, or why it does not.
const (
	SignatureValid    SignatureState = "valid"
	SignatureContent  SignatureState = "content-changed"  // the version that it is about is not what was signed
	SignatureUnknown  SignatureState = "unknown-key"      // no key of this server made it
	SignatureMalform  SignatureState = "malformed"        // it is no signature of this server's form
	SignatureContrary SignatureState = "claims-differ"    // its Provenance says another signer or moment
	SignatureLost     SignatureState = "version-not-seen" // the caller sees no such version
)

// The states of a Consent.
const (
	ConsentSigned   SignatureState = "signed"        // it says what was signed, by everybody whose signature it asks for
	ConsentPartly   SignatureState = "partly-signed" // somebody signed it, and it waits for the signature of somebody else
	ConsentRevoked  SignatureState = "revoked"       // the current version is the one by which it was revoked
	ConsentChanged  SignatureState = "changed"       // an earlier version was signed; what it says now was not
	ConsentBroken   SignatureState = "broken"        // a signature of it does not hold
	ConsentUnsigned SignatureState = "unsigned"      // nobody signed it here
)

// Verification is what the signatures of a Consent come to.
type Verification struct {
	State      SignatureState
	Signatures []VerifiedSignature // in the order of the Provenances
	// Awaited are those whose signatures a Consent waits for, some of which it bears.
	Awaited []consent.Signer
}

// VerifiedSignature is one signature, as it was checked.
type VerifiedSignature struct {
	State      SignatureState
	Provenance fhir.Ref
	Version    string // of the Consent that it is about
	signature.Claims
}

// Verify checks the signatures of a Consent, which Provenances carry, against the stored
// versions of it. All of them were read by the holder of gr, to whom they are disclosed.
func (g *Gate) Verify(ctx context.Context, gr authz.Grant, current Sealed, standing Standing, versions, provenances []Sealed) (Verification, error) {
	v := Verification{State: ConsentUnsigned}
	h := vault.Head(current)
	if h.Ref.Type != "Consent" || g.keys == nil {
		return v, authz.ErrDenied
	}
	if err := g.disclose(ctx, gr, h.Ref.Type, append([]Sealed{current}, append(provenances[:len(provenances):len(provenances)], versions...)...)...); err != nil {
		return v, err
	}
	if h.Deleted {
		return v, outcome.New(outcome.Deleted, "the resource was deleted")
	}
	contents := map[string][]byte{}
	var now *codec.Resource
	for _, s := range append(versions[:len(versions):len(versions)], current) {
		x := vault.Head(s)
		if x.Ref != h.Ref || x.Deleted {
			continue
		}
		r, err := opened(ctx, s)
		if err != nil {
			return v, err
		}
		contents[x.Version.String()], now = r.Canonical(), r // the current one comes last
	}
	for _, s := range provenances {
		if vault.Head(s).Ref.Type != "Provenance" || vault.Head(s).Deleted {
			continue
		}
		p, err := opened(ctx, s)
		if err != nil {
			return v, err
		}
		version := targeted(p, h.Ref)
		for _, n := range p.Root.Get("signature").List() {
			if n.Get("sigFormat").String() != signature.Format || version == "" {
				continue
			}
			x := g.verify(n, contents[version])
			x.Provenance, x.Version = vault.Head(s).Ref, version
			v.Signatures = append(v.Signatures, x)
		}
	}
	v.State = stateOf(v.Signatures, h.Version.String(), standing, contents)
	if status := now.Root.Get("status").String(); v.State == ConsentSigned && status != "active" {
		d, err := codec.ConsentDirective(now)
		if err != nil {
			return v, err
		}
		v.State = ConsentPartly
		_, v.Awaited = consent.Signers(d)
	}
	return v, nil
}

// targeted is the version of the resource that a Provenance is about, or "".
func targeted(p *codec.Resource, ref fhir.Ref) string {
	for _, t := range p.Root.Get("target").List() {
		text := t.Get("reference").String()
		if at, ok := codec.LocalRef(text); !ok || at != ref {
			continue
		}
		if prefix := ref.String() + "/_history/"; len(text) > len(prefix) && text[:len(prefix)] == prefix {
			return text[len(prefix):]
		}
	}
	return ""
}

func (g *Gate) verify(n *element.Node, content []byte) (x VerifiedSignature) {
	x.Type = n.Get("type").List()[0].Get("code").String()
	x.Who, x.OnBehalf = n.Get("who").Get("reference").String(), n.Get("onBehalfOf").Get("reference").String()
	x.At, _ = time.Parse(time.RFC3339, n.Get("when").String())
	if content == nil {
		x.State = SignatureLost
		return x
	}
	jws, err := base64.StdEncoding.DecodeString(n.Get("data").String())
	if err != nil {
		x.State = SignatureMalform
		return x
	}
	c, err := g.keys.Verify(content, string(jws))
	switch {
	case errors.Is(err, signature.ErrContent):
		x.State = SignatureContent
	case errors.Is(err, signature.ErrUnknown):
		x.State = SignatureUnknown
	case err != nil || c.Canonical != codec.Canonicalization:
		x.State = SignatureMalform
	case c.Type != x.Type || c.Who != x.Who || c.OnBehalf != x.OnBehalf || !c.At.Equal(x.At):
		x.State = SignatureContrary
	default:
		x.State, x.Claims = SignatureValid, c
	}
	return x
}

// stateOf says what signatures come to. Those of the standing cover what the current version
// says, each as its own version of the Consent said it.
func stateOf(signatures []VerifiedSignature, current string, standing Standing, contents map[string][]byte) SignatureState {
	state := ConsentUnsigned
	covers := func(version string) bool {
		return version == current || standing.Attested == consent.Covered &&
			slices.ContainsFunc(standing.Signatures, func(s Signature) bool { return s.Version.String() == version })
	}
	if n := len(standing.Signatures); n > 0 && standing.Attested == consent.Covered {
		if last, seen := contents[standing.Signatures[n-1].Version.String()]; seen && !bytes.Equal(last, contents[current]) {
			return ConsentBroken
		}
	}
	for _, x := range signatures {
		signs := x.Type == signature.Consent || x.Type == signature.ConsentWitness
		switch {
		case covers(x.Version) && x.State != SignatureValid && x.State != SignatureLost:
			return ConsentBroken
		case covers(x.Version) && x.State == SignatureValid && signs:
			state = ConsentSigned
		case x.Version == current:
			state = ConsentRevoked
		case signs && state == ConsentUnsigned:
			state = ConsentChanged
		}
	}
	return state
}
