package smart

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Use is what a signing key signs.
type Use string

// The uses. SMART App Launch 2.2 asks for RS256 under ID tokens; access tokens are read by this server
// alone, and ES256 is faster.
const (
	ForAccess Use = "access"
	ForID     Use = "id"
)

var algorithms = map[Use]jose.SignatureAlgorithm{ForAccess: jose.ES256, ForID: jose.RS256}

// SigningKey is a stored key. It is published from Created on, signs from From on until the next one does, and is
// published until Until.
type SigningKey struct {
	ID      string // kid
	Use     Use
	Public  []byte // JSON Web Key
	Sealed  []byte // PKCS #8, sealed with the id as its associated data
	Created time.Time
	From    time.Time
	Until   time.Time // zero while no successor signs
	Lost    bool      // given to ChangeKeys alone: all tokens that it signed end
}

// KeyStore keeps signing keys.
type KeyStore interface {
	// SigningKeys lists all that are still published.
	SigningKeys(ctx context.Context, now time.Time) ([]SigningKey, error)
	// ChangeKeys lets one process at a time see all keys and say which are new or changed.
	ChangeKeys(ctx context.Context, change func([]SigningKey) ([]SigningKey, error)) error
}

// Sealer encrypts what lies in the database.
type Sealer interface {
	Seal(plain []byte, about string) []byte
	Open(sealed []byte, about string) ([]byte, error)
}

const (
	// keyLife is how long a key signs.
	keyLife = 90 * 24 * time.Hour
	// keyLead is how long before it signs a key is published, so that whoever keeps the key set for a while knows it.
	keyLead = 24 * time.Hour
	// keyTail is how long after it signed last a key is published: the life of what it signed, and of their caches.
	keyTail = 2 * time.Hour
	// keysFresh is how long this process goes without looking for keys that another process made.
	keysFresh = time.Minute
)

// Ring holds the signing keys of this process's view.
type Ring struct {
	store KeyStore
	box   Sealer
	now   func() time.Time

	mu     sync.Mutex
	keys   []opened
	loaded time.Time
}

type opened struct {
	SigningKey
	public jose.JSONWebKey
	signer jose.Signer
}

// NewRing opens the keys, and makes them where there are none.
func NewRing(ctx context.Context, store KeyStore, box Sealer, now func() time.Time) (*Ring, error) {
	if store == nil || box == nil || now == nil {
		return nil, errors.New("smart: the key ring needs a store, a box and a clock")
	}
	r := &Ring{store: store, box: box, now: now}
	if err := r.Maintain(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

// Maintain makes the keys that are due, and reads all. It is to be called every few minutes.
func (r *Ring) Maintain(ctx context.Context) error {
	if err := r.store.ChangeKeys(ctx, func(have []SigningKey) ([]SigningKey, error) { return r.due(have, false) }); err != nil {
		return fmt.Errorf("smart: signing keys: %w", err)
	}
	return r.load(ctx)
}

// Rotate makes the next keys now; they sign after they have been published for a day.
func (r *Ring) Rotate(ctx context.Context) error {
	if err := r.store.ChangeKeys(ctx, func(have []SigningKey) ([]SigningKey, error) { return r.due(have, true) }); err != nil {
		return fmt.Errorf("smart: signing keys: %w", err)
	}
	return r.load(ctx)
}

// Replace ends all keys at once and makes new ones that sign at once: for keys that somebody else may have. Every
// token that they signed is refused from then on.
func (r *Ring) Replace(ctx context.Context) error {
	now := r.now().UTC()
	err := r.store.ChangeKeys(ctx, func(have []SigningKey) ([]SigningKey, error) {
		var out []SigningKey
		for _, k := range have {
			if k.published(now) {
				k.Until, k.Lost = now, true
				out = append(out, k)
			}
		}
		for u := range algorithms {
			k, err := r.make(u, now, now)
			if err != nil {
				return nil, err
			}
			out = append(out, k)
		}
		return out, nil
	})
	if err != nil {
		return fmt.Errorf("smart: signing keys: %w", err)
	}
	return r.load(ctx)
}

// due says which keys are to be made or changed.
func (r *Ring) due(have []SigningKey, early bool) ([]SigningKey, error) {
	now := r.now().UTC()
	var out []SigningKey
	for u := range algorithms {
		var last *SigningKey
		for i, k := range have {
			if k.Use == u && k.Until.IsZero() && (last == nil || k.From.After(last.From)) {
				last = &have[i]
			}
		}
		var from time.Time
		switch {
		case last == nil:
			from = now
		case last.From.After(now):
			continue // the next one waits already
		case early || !now.Before(last.From.Add(keyLife-keyLead)):
			from = now.Add(keyLead)
		default:
			continue
		}
		k, err := r.make(u, now, from)
		if err != nil {
			return nil, err
		}
		if last != nil {
			ends := *last
			ends.Until = from.Add(keyTail)
			out = append(out, ends)
		}
		out = append(out, k)
	}
	return out, nil
}

func (r *Ring) make(u Use, now, from time.Time) (SigningKey, error) {
	var private crypto.Signer
	var err error
	if u == ForID {
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		return SigningKey{}, fmt.Errorf("smart: %w", err)
	}
	k := SigningKey{ID: newID(), Use: u, Created: now, From: from}
	if k.Public, err = json.Marshal(jose.JSONWebKey{Key: private.Public(), KeyID: k.ID, Algorithm: string(algorithms[u]), Use: "sig"}); err != nil {
		return SigningKey{}, fmt.Errorf("smart: %w", err)
	}
	plain, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return SigningKey{}, fmt.Errorf("smart: %w", err)
	}
	k.Sealed = r.box.Seal(plain, about(k.ID))
	return k, nil
}

func about(kid string) string { return "signing key " + kid }

func (r *Ring) load(ctx context.Context) error {
	now := r.now().UTC()
	stored, err := r.store.SigningKeys(ctx, now)
	if err != nil {
		return fmt.Errorf("smart: signing keys: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	known := map[string]opened{}
	for _, k := range r.keys {
		known[k.ID] = k
	}
	keys := make([]opened, 0, len(stored))
	for _, k := range stored {
		o, ok := known[k.ID]
		if !ok {
			if o, err = r.open(k); err != nil {
				return err
			}
		}
		o.SigningKey = k
		keys = append(keys, o)
	}
	r.keys, r.loaded = keys, now
	return nil
}

func (r *Ring) open(k SigningKey) (opened, error) {
	o := opened{SigningKey: k}
	if err := json.Unmarshal(k.Public, &o.public); err != nil || !o.public.IsPublic() {
		return o, errors.New("smart: a signing key is stored badly")
	}
	plain, err := r.box.Open(k.Sealed, about(k.ID))
	if err != nil {
		return o, errors.New("smart: a signing key cannot be opened: CLOISTER_AUTH_KEY is another key than the one that sealed it")
	}
	private, err := x509.ParsePKCS8PrivateKey(plain)
	if err != nil {
		return o, errors.New("smart: a signing key is stored badly")
	}
	kind := jose.ContentType("at+jwt")
	if k.Use == ForID {
		kind = "JWT"
	}
	o.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: algorithms[k.Use], Key: jose.JSONWebKey{Key: private, KeyID: k.ID}},
		(&jose.SignerOptions{}).WithType(kind))
	if err != nil {
		return o, fmt.Errorf("smart: %w", err)
	}
	return o, nil
}

// fresh is the keys as of a minute ago at most.
func (r *Ring) fresh(ctx context.Context) ([]opened, error) {
	r.mu.Lock()
	keys, stale := r.keys, !r.now().Before(r.loaded.Add(keysFresh))
	r.mu.Unlock()
	if !stale {
		return keys, nil
	}
	if err := r.load(ctx); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.keys, nil
}

func (k SigningKey) published(now time.Time) bool { return k.Until.IsZero() || now.Before(k.Until) }

// sign makes a JWT in compact form of claims.
func (r *Ring) sign(ctx context.Context, u Use, claims any) (string, error) {
	keys, err := r.fresh(ctx)
	if err != nil {
		return "", err
	}
	now := r.now()
	var best *opened
	for i, k := range keys {
		if k.Use == u && !now.Before(k.From) && k.published(now) && (best == nil || k.From.After(best.From)) {
			best = &keys[i]
		}
	}
	if best == nil {
		return "", errors.New("smart: there is no key to sign with")
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("smart: %w", err)
	}
	signed, err := best.signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("smart: %w", err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		return "", fmt.Errorf("smart: %w", err)
	}
	return text, nil
}

// Published is the key set that everybody may have.
func (r *Ring) Published(ctx context.Context) (jose.JSONWebKeySet, error) {
	keys, err := r.fresh(ctx)
	if err != nil {
		return jose.JSONWebKeySet{}, err
	}
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	now := r.now()
	for _, k := range keys {
		if k.published(now) {
			set.Keys = append(set.Keys, k.public)
		}
	}
	return set, nil
}

// Verification gives the key with that id by which access tokens are checked, or false.
func (r *Ring) Verification(ctx context.Context, kid string) (crypto.PublicKey, bool, error) {
	return r.find(ctx, ForAccess, kid)
}

func (r *Ring) find(ctx context.Context, u Use, kid string) (crypto.PublicKey, bool, error) {
	keys, err := r.fresh(ctx)
	if err != nil {
		return nil, false, err
	}
	now := r.now()
	for _, k := range keys {
		if k.ID == kid && k.Use == u && k.published(now) {
			return k.public.Key, true, nil
		}
	}
	return nil, false, nil
}
