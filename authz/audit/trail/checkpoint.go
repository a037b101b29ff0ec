package trail

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Head is how far the chain of a month has come.
type Head struct {
	Month string `json:"month"`
	Links int64  `json:"links"`
	Rows  int64  `json:"rows"`
	Hash  string `json:"hash"` // of the last link, in hex
}

// Suspect is a link that no sealer made, or that was not there any more; without a month, such a checkpoint.
type Suspect struct {
	Month string `json:"month"`
	N     int64  `json:"n"`
}

// Checkpoint is a signed statement about the chains.
type Checkpoint struct {
	Number   int64     `json:"number"` // from 1
	At       time.Time `json:"at"`
	Key      string    `json:"key"`      // id of the key that signs
	Previous string    `json:"previous"` // hash of the checkpoint before it, in hex; "" in the first
	First    int64     `json:"first"`    // number of the oldest checkpoint that is kept
	Through  int64     `json:"through"`  // all rows up to this number are sealed
	Whole    bool      `json:"whole"`    // months are all that there are, not only those with new links
	Months   []Head    `json:"months"`
	Dropped  []Head    `json:"dropped,omitempty"` // months that retention ended, from now on
	Suspect  []Suspect `json:"suspect,omitempty"`
}

// Signed is a checkpoint as it is kept.
type Signed struct {
	Body      string `json:"body"`
	Signature []byte `json:"signature"`
}

func signed(body string) []byte { return append([]byte("cloister audit checkpoint 1\n"), body...) }

// Sign signs with the first key, and writes its id into the checkpoint.
func (k *Keys) Sign(c Checkpoint) (Signed, error) {
	if !k.CanSign() {
		return Signed{}, errors.New("trail: the key set holds no private key in its first place")
	}
	c.Key = k.list[0].id
	c.At = c.At.UTC().Truncate(time.Microsecond)
	body, err := json.Marshal(c)
	if err != nil {
		return Signed{}, fmt.Errorf("trail: %w", err)
	}
	return Signed{string(body), ed25519.Sign(k.list[0].private, signed(string(body)))}, nil
}

// ErrForged says that no key of the set signed a checkpoint.
var ErrForged = errors.New("trail: the checkpoint is not signed by a key of the key set")

// Open checks the signature and reads the checkpoint.
func (k *Keys) Open(s Signed) (c Checkpoint, err error) {
	if err := json.Unmarshal([]byte(s.Body), &c); err != nil {
		return c, ErrForged
	}
	x := k.find(c.Key)
	if x == nil || !ed25519.Verify(x.public, signed(s.Body), s.Signature) {
		return c, ErrForged
	}
	return c, nil
}

// Hash is what the next checkpoint names it by, in hex.
func (s Signed) Hash() string {
	h := sum(func(w io.Writer) {
		_, _ = w.Write(signed(s.Body))
		_, _ = w.Write(s.Signature)
	})
	return hex.EncodeToString(h[:])
}

// Line is the checkpoint as a line of a file that is kept outside of the database.
func (s Signed) Line() ([]byte, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("trail: %w", err)
	}
	return append(b, '\n'), nil
}

// ParseLine reads a line that Line wrote.
func ParseLine(line []byte) (s Signed, err error) {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return s, fmt.Errorf("trail: the line holds no checkpoint: %w", err)
	}
	return s, nil
}

// NewHead gives the head of a month that ends with the link of that hash.
func NewHead(m Month, links, rows int64, hash Digest) Head {
	return Head{m.String(), links, rows, hex.EncodeToString(hash[:])}
}
