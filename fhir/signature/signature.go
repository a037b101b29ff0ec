// Package signature signs the canonical form of FHIR resources and checks such signatures.
//
// A signature is a JWS with detached content (RFC 7515, appendix F), the form that
// R4 gives Signature.data (http://hl7.org/fhir/R4/datatypes.html#Signature). Its
// protected header says who signed for whom, as what and when, so that none of
// this can be changed without breaking it.
package signature

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Format is Signature.sigFormat.
const Format = "application/jose"

// Types is the code system of Signature.type; the codes below are of it (ASTM E1762-95).
const Types = "urn:iso-astm:E1762-95:2013"

// The types of signatures that this server makes.
const (
	Consent = "1.2.840.10065.1.12.1.7" // of somebody who consents
	Author  = "1.2.840.10065.1.12.1.1" // of somebody who revokes one
	// ConsentWitness is of somebody who saw others sign.
	ConsentWitness = "1.2.840.10065.1.12.1.11"
)

// Display is the name of a type of signature.
func Display(kind string) string {
	switch kind {
	case Consent:
		return "Consent Signature"
	case Author:
		return "Author's Signature"
	case ConsentWitness:
		return "Consent Witness Signature"
	}
	return ""
}

// Claims is what a signature says beside the content.
type Claims struct {
	Type      string    // what the signer stands for: Consent ...
	Who       string    // literal reference to the signer
	OnBehalf  string    // literal reference to the one signed for, or ""
	Witness   string    // literal reference to the one who saw it, or ""
	At        time.Time // whole seconds
	Canonical string    // names the canonical form that was signed
}

// Keys are the keys of a server: the first one signs, all of them check. The nil
// *Keys signs nothing and knows no key.
type Keys struct {
	signing jose.JSONWebKey
	public  jose.JSONWebKeySet
}

// algorithms are those that a signature can have.
var algorithms = map[string]jose.SignatureAlgorithm{"P-256": jose.ES256, "P-384": jose.ES384}

// Parse reads a JSON Web Key Set (RFC 7517) whose first key is private; all are
// EC keys of the curves P-256 (ES256) or P-384 (ES384). Retired keys stay in the
// set, without their private half, for as long as signatures of theirs are to be checked.
func Parse(set []byte) (*Keys, error) {
	var in jose.JSONWebKeySet
	if err := json.Unmarshal(set, &in); err != nil || len(in.Keys) == 0 {
		return nil, errors.New("signature: this is not a JSON Web Key Set with a key in it") // the text may quote a private key
	}
	k := &Keys{}
	for i, x := range in.Keys {
		private, isPrivate := x.Key.(*ecdsa.PrivateKey)
		public, isPublic := x.Key.(*ecdsa.PublicKey)
		switch {
		case isPrivate:
			public = &private.PublicKey
		case !isPublic:
			return nil, fmt.Errorf("signature: key %d is not an EC key", i+1)
		case i == 0:
			return nil, errors.New("signature: the first key is the one that signs, and it has no private half")
		}
		alg, ok := algorithms[public.Curve.Params().Name]
		if !ok || !x.Valid() {
			return nil, fmt.Errorf("signature: key %d is not one of the curve P-256 or P-384", i+1)
		}
		id, err := thumbprint(public)
		if err != nil {
			return nil, fmt.Errorf("signature: key %d: %w", i+1, err)
		}
		if x.KeyID != "" {
			id = x.KeyID
		}
		if len(k.public.Key(id)) > 0 {
			return nil, fmt.Errorf("signature: key %d has the id of another one", i+1)
		}
		pub := jose.JSONWebKey{Key: public, KeyID: id, Algorithm: string(alg), Use: "sig"}
		if i == 0 {
			k.signing = pub
			k.signing.Key = private
		}
		k.public.Keys = append(k.public.Keys, pub)
	}
	return k, nil
}

// Generate makes a key set of one new key of the curve P-256.
func Generate() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	return json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key, Algorithm: string(jose.ES256), Use: "sig"}}})
}

func thumbprint(k *ecdsa.PublicKey) (string, error) {
	sum, err := (&jose.JSONWebKey{Key: k}).Thumbprint(crypto.SHA256)
	return base64.RawURLEncoding.EncodeToString(sum), err
}

// JWKS is the public halves of the keys, as a JSON Web Key Set.
func (k *Keys) JWKS() ([]byte, error) {
	if k == nil {
		return []byte(`{"keys":[]}`), nil
	}
	return json.Marshal(k.public)
}

// The names of the header parameters that are not registered: sigT is that of
// JAdES (ETSI TS 119 182-1, 5.2.1), the others are ours.
const (
	headerTime      = "sigT"
	headerType      = "fhir-type"
	headerWho       = "fhir-who"
	headerOnBehalf  = "fhir-onBehalfOf"
	headerWitness   = "fhir-witness"
	headerCanonical = "fhir-canonicalization"
)

// Sign gives the compact serialization, without its content, of a signature over content.
func (k *Keys) Sign(content []byte, c Claims) (string, error) {
	if k == nil {
		return "", errors.New("signature: there is no key")
	}
	if len(content) == 0 || c.Type == "" || c.Who == "" || c.At.IsZero() || c.Canonical == "" {
		return "", errors.New("signature: content, type, signer, time or canonical form is missing")
	}
	o := (&jose.SignerOptions{}).WithHeader(headerTime, c.At.UTC().Format(time.RFC3339)).
		WithHeader(headerType, c.Type).WithHeader(headerWho, c.Who).WithHeader(headerCanonical, c.Canonical)
	if c.OnBehalf != "" {
		o = o.WithHeader(headerOnBehalf, c.OnBehalf)
	}
	if c.Witness != "" {
		o = o.WithHeader(headerWitness, c.Witness)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(k.signing.Algorithm), Key: k.signing}, o)
	if err != nil {
		return "", fmt.Errorf("signature: %w", err)
	}
	s, err := signer.Sign(content)
	if err != nil {
		return "", fmt.Errorf("signature: %w", err)
	}
	return s.DetachedCompactSerialize()
}

// Why a signature is not good.
var (
	ErrMalformed = errors.New("signature: it is not a detached JWS of this server's form")
	ErrUnknown   = errors.New("signature: it was made with a key that this server does not know")
	ErrContent   = errors.New("signature: the content is not what was signed")
)

// Verify checks a signature over content and gives what it says. The error is
// one of those above.
func (k *Keys) Verify(content []byte, jws string) (Claims, error) {
	s, err := jose.ParseDetached(jws, content, []jose.SignatureAlgorithm{jose.ES256, jose.ES384})
	if err != nil || len(s.Signatures) != 1 {
		return Claims{}, ErrMalformed
	}
	h := s.Signatures[0].Protected
	if k == nil {
		return Claims{}, ErrUnknown
	}
	keys := k.public.Key(h.KeyID)
	if len(keys) != 1 || keys[0].Algorithm != h.Algorithm {
		return Claims{}, ErrUnknown
	}
	if err := s.DetachedVerify(content, keys[0]); err != nil {
		return Claims{}, ErrContent
	}
	text := func(name string) string {
		v, _ := h.ExtraHeaders[jose.HeaderKey(name)].(string)
		return v
	}
	c := Claims{Type: text(headerType), Who: text(headerWho), OnBehalf: text(headerOnBehalf), Witness: text(headerWitness), Canonical: text(headerCanonical)}
	if c.At, err = time.Parse(time.RFC3339, text(headerTime)); err != nil || c.Type == "" || c.Who == "" || c.Canonical == "" {
		return Claims{}, ErrMalformed
	}
	return c, nil
}
