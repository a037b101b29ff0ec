package evidence_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/authz/audit/trail"
	"github.com/cloister-health/cloister/fhir/record/postgres"
	"github.com/cloister-health/cloister/fhir/record/postgres/evidence"
)

// Where these are set, the test binary is a process that ends months, and nothing else.
const (
	retainURL    = "CLOISTER_TEST_RETAIN_URL"    // by way of a relay
	retainDirect = "CLOISTER_TEST_RETAIN_DIRECT" // past it
	retainKey    = "CLOISTER_TEST_RETAIN_KEY"
	retainOut    = "CLOISTER_TEST_RETAIN_OUTSIDE"
	retainBefore = "CLOISTER_TEST_RETAIN_BEFORE"
)

func retainProcess() int {
	ctx := context.Background()
	before, err := time.Parse(time.RFC3339, os.Getenv(retainBefore))
	if err == nil {
		err = retainOnce(ctx, os.Getenv(retainURL), os.Getenv(retainDirect), os.Getenv(retainKey), os.Getenv(retainOut), before)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// retainOnce ends months as the command does. Around each note it says something to the database, where it can be stopped.
func retainOnce(ctx context.Context, dsn, direct, key, outside string, before time.Time) error {
	keys, err := trail.ReadFile(key)
	if err != nil {
		return err
	}
	store, err := postgres.Open(ctx, postgres.Options{URL: direct, MaxConns: 1, Trail: keys})
	if err != nil {
		return err
	}
	defer store.Close()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = evidence.Retain(ctx, evidence.Retention{Options: evidence.Options{URL: dsn, Keys: keys, Outside: outside}, Before: before, Note: func(ctx context.Context, months []trail.Month) error {
		for _, m := range months {
			e := security(time.Now().UTC())
			e.Kind, e.By, e.Session = audit.MonthDropped, "operator", m.String()
			if err := store.RecordSecurity(ctx, e); err != nil {
				return err
			}
			if _, err := conn.Exec(ctx, "SELECT"); err != nil {
				return err
			}
		}
		return nil
	}})
	return err
}

// relay carries what a process says to PostgreSQL, and kills it before the statement of that number gets there.
type relay struct {
	net.Listener
	to   string
	mu   sync.Mutex
	at   int
	seen int
	kill func()
}

func newRelay(t *testing.T, dsn string) (*relay, string) {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "relay") // short: the name of a socket has at most 103 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	const name = ".s.PGSQL.5432"
	q := u.Query()
	r := &relay{to: filepath.Join(q.Get("host"), name)}
	if r.Listener, err = (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	q.Set("host", dir)
	u.RawQuery = q.Encode()
	go func() {
		for {
			c, err := r.Accept()
			if err != nil {
				return
			}
			go r.carry(c)
		}
	}()
	return r, u.String()
}

// carry goes on until either side is gone (the frontend/backend protocol, version 3.0).
func (r *relay) carry(from net.Conn) {
	defer func() { _ = from.Close() }()
	to, err := (&net.Dialer{}).DialContext(context.Background(), "unix", r.to)
	if err != nil {
		return
	}
	defer func() { _ = to.Close() }()
	go func() {
		_, _ = io.Copy(from, to)
		_ = from.Close()
	}()
	for head := 4; ; head = 5 { // the first message has no letter
		b := make([]byte, head)
		if _, err := io.ReadFull(from, b); err != nil {
			return
		}
		rest := make([]byte, binary.BigEndian.Uint32(b[head-4:])-4)
		if _, err := io.ReadFull(from, rest); err != nil {
			return
		}
		if head == 5 && (b[0] == 'Q' || b[0] == 'S') && r.stop() {
			return
		}
		if _, err := to.Write(slices.Concat(b, rest)); err != nil {
			return
		}
	}
}

func (r *relay) stop() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen++; r.seen == r.at {
		r.kill()
	}
	return r.seen >= r.at
}

// Retention that is killed before any of its statements has lost nothing: what is left verifies, with the checkpoints kept
// elsewhere, the months that stay are whole, and the next run ends what was to end. It is killed before each fifth
// statement, and with CLOISTER_RETAIN_KILLS=all before each.
func TestRetentionIsKilledAnywhere(t *testing.T) {
	if testing.Short() {
		t.Skip("dozens of processes")
	}
	h := newHouse(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, through := newRelay(t, h.dsn)
	s := h.sealer()
	random := rand.New(rand.NewPCG(11, 11))
	first := time.Date(2010, 1, 1, 0, 0, 0, 0, time.UTC)
	const each = 5
	step := 5
	if os.Getenv("CLOISTER_RETAIN_KILLS") == "all" {
		step = 1
	}
	kills := 0
	for at, killed := 1, true; killed; at += step {
		month := first.AddDate(0, kills, 0)
		before := month.AddDate(0, 1, 0)
		if kills%2 == 0 { // others lie in the default partitions
			h.exec("SELECT audit.add_month($1)", month)
		}
		if at == 1 {
			h.write(h.store, random, each, month, before)
		}
		h.write(h.store, random, each, before, before.AddDate(0, 1, 0))
		seal(t, s)

		cmd := exec.CommandContext(t.Context(), self)
		cmd.Env = append(os.Environ(), retainURL+"="+through, retainDirect+"="+h.dsn, retainKey+"="+h.keyFile, retainOut+"="+h.outside, retainBefore+"="+before.Format(time.RFC3339))
		var dead sync.Once
		killed = false
		r.mu.Lock()
		r.at, r.seen, r.kill = at, 0, func() { dead.Do(func() { killed = true; _ = cmd.Process.Kill() }) }
		r.mu.Unlock()
		out, err := cmd.CombinedOutput()
		r.mu.Lock()
		if killed == (err == nil) {
			t.Fatalf("statement %d: killed %v, %v\n%s", at, killed, err, out)
		}
		r.at = 1 << 30
		r.mu.Unlock()
		if report := h.sound(h.outsideToo); t.Failed() {
			t.Fatalf("killed before statement %d: %+v", at, report)
		}
		rows := func(from time.Time) (n int) {
			h.query(&n, "SELECT (SELECT count(*) FROM audit.event WHERE at >= $1 AND at < $2) + (SELECT count(*) FROM audit.security WHERE at >= $1 AND at < $2) + (SELECT count(*) FROM audit.downgrade WHERE at >= $1 AND at < $2)", from, from.AddDate(0, 1, 0))
			return n
		}
		if n := rows(before); n != each {
			t.Fatalf("killed before statement %d: %d rows of the month that stays", at, n)
		}
		if err := retainOnce(t.Context(), h.dsn, h.dsn, h.keyFile, h.outside, before); err != nil {
			t.Fatalf("after it was killed before statement %d: %v", at, err)
		}
		if n := rows(month); n != 0 {
			t.Fatalf("after it was killed before statement %d, the next run leaves %d rows", at, n)
		}
		if n := rows(before); n != each {
			t.Fatalf("after it was killed before statement %d, the next run leaves %d rows of the month that stays", at, n)
		}
		if report := h.sound(h.outsideToo); t.Failed() {
			t.Fatalf("the run after statement %d: %+v", at, report)
		}
		kills++
	}
	if kills--; kills < 10 {
		t.Errorf("it was killed %d times: it shows little", kills)
	}
	t.Logf("killed %d times", kills)
}
