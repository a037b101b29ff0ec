// Package sinktest is what every sink of exports has to do.
package sinktest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/export"
)

// Run puts a sink to the test. objects counts what is in it, whole or not.
func Run(t *testing.T, s export.Sink, objects func() int) {
	t.Helper()
	ctx := t.Context()
	create := func(t *testing.T, size int64) (string, []byte) {
		t.Helper()
		name := record.NewID()
		w, err := s.Create(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		all := content(size)
		for rest := all; len(rest) > 0; {
			n := min(len(rest), 100_000)
			if _, err := w.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return name, all
	}
	read := func(name string) ([]byte, error) {
		r, err := s.Open(ctx, name)
		if err != nil {
			return nil, err
		}
		defer func() { _ = r.Close() }()
		return io.ReadAll(r)
	}
	for _, size := range []int64{1, 70_000, 5 << 20, 12<<20 + 17} {
		t.Run(strconv.FormatInt(size, 10)+" bytes", func(t *testing.T) {
			name, want := create(t, size)
			for range 2 {
				if got, err := read(name); err != nil || !bytes.Equal(got, want) {
					t.Fatalf("%d bytes of %d, %v", len(got), size, err)
				}
			}
			if err := s.Remove(ctx, name); err != nil {
				t.Fatal(err)
			}
			if _, err := read(name); err == nil {
				t.Error("it is there still")
			}
			if err := s.Remove(ctx, name); err != nil {
				t.Errorf("what is not there cannot be removed: %v", err)
			}
		})
	}
	t.Run("names", func(t *testing.T) {
		for _, name := range []string{"", ".", "..", "../x", "a/b", "a\\b", "/etc/passwd", "a\x00b"} {
			w, one := s.Create(ctx, name)
			_, two := s.Open(ctx, name)
			if three := s.Remove(ctx, name); one == nil || two == nil || three == nil {
				t.Errorf("%q: %v %v %v", name, one, two, three)
			}
			if w != nil {
				_ = w.Close()
			}
		}
	})
	t.Run("what is begun and not ended", func(t *testing.T) {
		name := record.NewID()
		dead, kill := context.WithCancel(ctx)
		w, err := s.Create(dead, name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content(11 << 20)); err != nil { // a first part may be stored by now
			t.Fatal(err)
		}
		kill()
		_ = w.Close()
		if err := s.Remove(ctx, name); err != nil {
			t.Fatal(err)
		}
		if _, err := read(name); err == nil {
			t.Error("it is there")
		}
	})
	t.Run("many at a time", func(t *testing.T) {
		var all sync.WaitGroup
		errs := make(chan error, 16)
		for i := range 16 {
			all.Go(func() {
				name := record.NewID()
				w, err := s.Create(ctx, name)
				if err == nil {
					_, err = w.Write(content(int64(1000 * (i + 1))))
					err = errors.Join(err, w.Close())
				}
				if err == nil {
					var got []byte
					if got, err = read(name); err == nil && !bytes.Equal(got, content(int64(1000*(i+1)))) {
						err = errors.New("another's content")
					}
				}
				errs <- errors.Join(err, s.Remove(ctx, name))
			})
		}
		all.Wait()
		close(errs)
		for err := range errs {
			if err != nil {
				t.Error(err)
			}
		}
	})
	if n := objects(); n != 0 {
		t.Errorf("%d objects are left", n)
	}
}

// heap is what is in use, in bytes.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// content is the same for the same size, and cannot be compressed.
func content(size int64) []byte {
	b := make([]byte, size)
	r := rand.NewChaCha8(sha256.Sum256([]byte(strconv.FormatInt(size, 10))))
	_, _ = r.Read(b) // never fails
	return b
}

// Memory fails where a sink holds more of an object than a piece of it while it is written. What
// keeps the object must not be in this process.
func Memory(t *testing.T, s export.Sink) {
	t.Helper()
	const size = 48 << 20
	ctx, name := context.Background(), record.NewID()
	piece := content(1 << 20)
	least, most := heap(), uint64(0)
	w, err := s.Create(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	for range size >> 20 {
		if _, err := w.Write(piece); err != nil {
			t.Fatal(err)
		}
		most = max(most, heap())
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if more := (int64(most) - int64(least)) >> 20; more > 16 { //nolint:gosec // sizes of heaps
		t.Errorf("%d MiB more in memory while %d are written", more, size>>20)
	}
	if err := s.Remove(ctx, name); err != nil {
		t.Fatal(err)
	}
}
