package evidence

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz/audit/trail"
)

// wholeEvery is how often a checkpoint names all months, so that the ones before it can go.
const wholeEvery = 500

// state is what the checkpoints up to number say.
type state struct {
	number   int64
	hash     string // of the last checkpoint
	at       time.Time
	through  int64
	first    int64
	heads    map[string]trail.Head
	unsigned int64 // rows in links that no checkpoint names yet
}

// gone reports whether nothing is known of a month.
func (s *state) gone(m trail.Month) bool {
	_, ok := s.heads[m.String()]
	return !ok && s.number > 0
}

// apply takes a checkpoint over.
func (s *state) apply(c trail.Checkpoint, hash string) {
	if s.heads == nil || c.Whole {
		s.heads = map[string]trail.Head{}
	}
	for _, h := range c.Months {
		s.heads[h.Month] = h
	}
	for _, h := range c.Dropped {
		delete(s.heads, h.Month)
	}
	s.number, s.hash, s.at, s.through, s.first = c.Number, hash, c.At, c.Through, c.First
}

// load brings the state up to the last checkpoint.
func (s *Sealer) load(ctx context.Context, tx pgx.Tx) error {
	var number int64
	if err := tx.QueryRow(ctx, "SELECT COALESCE(max(number), 0) FROM audit.checkpoint").Scan(&number); err != nil {
		return err
	}
	if number == 0 {
		s.state = state{through: math.MinInt64, heads: map[string]trail.Head{}}
		return nil
	}
	if number == s.state.number {
		return nil
	}
	s.state = state{}
	var x trail.Signed
	err := forEach(ctx, tx, "SELECT body, signature FROM audit.checkpoint WHERE number >= $1 ORDER BY number", []any{number - number%wholeEvery}, []any{&x.Body, &x.Signature}, func() error {
		if c, err := s.Keys.Open(x); err == nil {
			s.state.apply(c, x.Hash())
		} else { // its place in the chain stays; verify names it
			s.Log.Error("a checkpoint of the audit trail is forged: run cloister audit verify", "after", s.state.number)
			s.state.hash = x.Hash()
		}
		return nil
	})
	if err == nil {
		s.state.number = number
		if s.state.heads == nil {
			s.state.heads = map[string]trail.Head{}
			s.state.through = math.MinInt64
		}
	}
	return err
}

// sign adds a checkpoint when one is due: always where months are dropped, or when asked to and there is something to sign.
func (s *Sealer) sign(ctx context.Context, tx pgx.Tx, now bool, dropped []trail.Month) (*trail.Signed, error) {
	c := trail.Checkpoint{Number: s.state.number + 1, At: s.Now(), Previous: s.state.hash, Through: s.state.through, First: max(s.state.first, 1), Suspect: s.suspects}
	heads, changed := maps.Clone(s.state.heads), map[string]bool{}
	var l struct {
		month            time.Time
		n, through, rows int64
		hash, mac        []byte
	}
	var unsigned int64
	if err := forEach(ctx, tx, "SELECT month, n, through, rows, hash, mac FROM audit.link WHERE through > $1 ORDER BY month, n", []any{s.state.through}, []any{&l.month, &l.n, &l.through, &l.rows, &l.hash, &l.mac}, func() error {
		m := trail.MonthOf(l.month)
		if len(l.hash) != len(trail.Digest{}) || !s.Keys.Linked(trail.Digest(l.hash), l.mac) {
			c.Suspect = append(c.Suspect, trail.Suspect{Month: m.String(), N: l.n})
			s.Log.Error("a link of the audit trail was not made by a sealer: run cloister audit verify", "month", m.String(), "number", l.n)
		}
		before := heads[m.String()]
		heads[m.String()] = trail.Head{Month: m.String(), Links: l.n, Rows: before.Rows + l.rows, Hash: hex.EncodeToString(l.hash)}
		changed[m.String()] = true
		unsigned += l.rows
		c.Through = max(c.Through, l.through)
		return nil
	}); err != nil {
		return nil, err
	}
	s.state.unsigned = unsigned
	due := now || unsigned >= s.SignRows || c.At.Sub(s.state.at) >= s.SignEvery || c.At.Before(s.state.at)
	if len(dropped) == 0 && (!due || unsigned == 0 && len(c.Suspect) == 0) {
		return nil, nil //nolint:nilnil // nothing is due
	}
	for _, m := range dropped {
		if h, ok := heads[m.String()]; ok {
			c.Dropped = append(c.Dropped, h)
			delete(heads, m.String())
		}
	}
	c.Whole = c.Number == 1 || c.Number%wholeEvery == 0
	c.Months = []trail.Head{}
	for _, name := range slices.Sorted(maps.Keys(heads)) {
		if c.Whole || changed[name] {
			c.Months = append(c.Months, heads[name])
		}
	}
	return s.write(ctx, tx, c)
}

func (s *Sealer) write(ctx context.Context, tx pgx.Tx, c trail.Checkpoint) (*trail.Signed, error) {
	x, err := s.Keys.Sign(c)
	if err != nil {
		return nil, err
	}
	if _, err := tx.Exec(ctx, "INSERT INTO audit.checkpoint (number, at, body, signature) VALUES ($1, $2, $3, $4)", c.Number, c.At, x.Body, x.Signature); err != nil {
		return nil, err
	}
	return &x, nil
}

// published is called when a checkpoint is committed.
func (s *Sealer) published(x trail.Signed) {
	c, err := s.Keys.Open(x)
	if err != nil {
		return // it was signed a moment ago
	}
	s.state.apply(c, x.Hash())
	s.state.unsigned, s.suspects, s.ownSign, s.ownCheck = 0, nil, x, c.Number
	// The log is a place outside of the database, too.
	s.Log.Info("audit checkpoint", "number", c.Number, "through", c.Through, "hash", x.Hash())
	if err := s.keep(x); err != nil {
		s.Log.Error("a checkpoint of the audit trail could not be kept outside of the database", "error", err)
	}
}

// probe finds out at the start whether the file outside can be written.
func probe(path string) error {
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600) //nolint:gosec // the operator names it
	if err != nil {
		return fmt.Errorf("evidence: %w", err)
	}
	return f.Close()
}

func (s *Sealer) keep(x trail.Signed) error {
	if s.Outside == "" {
		return nil
	}
	line, err := x.Line()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(s.Outside, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("evidence: %w", err)
	}
	_, err = f.Write(line)
	return errors.Join(err, f.Sync(), f.Close())
}
