package definition

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cloister-health/cloister/fhir"
)

func TestNewerKnowsTheVersionsThatAreMet(t *testing.T) {
	order := []string{"", "draft", "v2", "2018-08-12", "20190301", "1.0.0-ballot", "1.0.0-ballot.2", "1.0.0-ballot.10", "1.0.0", "2.0", "2.0.1", "4.0.1", "10.0.0"}
	for i, a := range order {
		for j, b := range order {
			got := Newer(a, b)
			if got > 0 != (i > j) || got < 0 != (i < j) {
				t.Errorf("Newer(%q, %q) = %d", a, b, got)
			}
		}
	}
}

func TestNewerIsATotalOrder(t *testing.T) {
	version := rapid.OneOf(rapid.StringMatching(`[0-9]{1,2}(\.[0-9x]{1,2}){0,3}(-[a-b0-9.]{0,4})?(\+[ab])?`), rapid.StringMatching(`[12][0-9]{3}-?[01][0-9]`), rapid.StringN(0, 4, 8))
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := version.Draw(t, "a"), version.Draw(t, "b"), version.Draw(t, "c")
		if Newer(a, b) != -Newer(b, a) {
			t.Fatalf("%q and %q: not antisymmetric", a, b)
		}
		if (Newer(a, b) == 0) != (a == b) {
			t.Fatalf("%q and %q: equal or not", a, b)
		}
		if Newer(a, b) > 0 && Newer(b, c) > 0 && Newer(a, c) <= 0 {
			t.Fatalf("%q > %q > %q, and not %q > %q", a, b, c, a, c)
		}
	})
}

func mustPackage(t *testing.T, name, version string, bodies ...string) *Package {
	t.Helper()
	p, err := New(name, version, bodies...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func titled(url, version, title string) string {
	return `{"resourceType":"ValueSet","url":"` + url + `","version":"` + version + `","title":"` + title + `"}`
}

// The same packages give the same answers, whatever the order in which they were loaded.
func TestFindDoesNotDependOnTheOrder(t *testing.T) {
	packages := []*Package{
		mustPackage(t, "b", "1.0.0", titled("http://x/a", "1.0.0", "old"), titled("http://x/a", "2.0.0", "b1")),
		mustPackage(t, "a", "9.0.0", titled("http://x/a", "2.0.0", "a9")),
		mustPackage(t, "a", "10.0.0", titled("http://x/a", "2.0.0", "a10"), titled("http://x/a", "", "none")),
		mustPackage(t, "c", "10.0.0", titled("http://x/a", "2.0.0", "c10"), titled("http://x/a", "0.9.0", "older, in the newest package")),
		mustPackage(t, "d", "1.0.0", `{"resourceType":"CodeSystem","url":"http://x/a","version":"3.0.0"}`),
	}
	rapid.Check(t, func(t *rapid.T) {
		s := NewSet(rapid.Permutation(packages).Draw(t, "order")...)
		for canonical, want := range map[string]string{
			"http://x/a": "c10", "http://x/a|2.0.0": "c10", "http://x/a|1.0.0": "old", "http://x/a|0.9.0": "older, in the newest package", "http://x/a|": "none", "http://x/a|3.0.0": "", "http://x/b": "", "": "",
		} {
			n, ok, err := s.Find(context.Background(), "ValueSet", canonical)
			if err != nil || ok != (want != "") || n.Get("title").String() != want {
				t.Fatalf("%q: %s, %t, %v; want %s", canonical, n.Get("title").String(), ok, err, want)
			}
		}
		all, err := s.Canonicals(context.Background(), "ValueSet")
		if err != nil || !slices.Equal(all, []string{"http://x/a", "http://x/a|0.9.0", "http://x/a|1.0.0", "http://x/a|2.0.0"}) {
			t.Fatal(all, err)
		}
	})
}

// counted is a shelf that says how often it was asked.
type counted struct {
	mu                         sync.Mutex
	revision                   int64
	entries                    []Entry
	bodies                     map[int64]string
	asked, listed, opened, bad int
}

func (s *counted) Revision(context.Context) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if s.bad > 0 {
		s.bad--
		return 0, errors.New("no answer")
	}
	return s.revision, nil
}

func (s *counted) Entries(context.Context) (int64, []Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listed++
	return s.revision, slices.Clone(s.entries), nil
}

func (s *counted) Body(_ context.Context, id int64) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened++
	return []byte(s.bodies[id]), nil
}

func (s *counted) add(t fhir.ResourceType, url, version, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revision++
	id := int64(len(s.entries) + 1)
	s.entries = append(s.entries, Entry{id, t, url, version, "p#1"})
	if s.bodies == nil {
		s.bodies = map[int64]string{}
	}
	s.bodies[id] = body
}

func TestLibrarySeesWhatIsInstalledLater(t *testing.T) {
	ctx, now := context.Background(), time.Unix(1000, 0)
	s := &counted{}
	l := NewLibrary(s, func() time.Time { return now }, 1<<20)
	find := func(want string) {
		t.Helper()
		n, ok, err := l.Find(ctx, "ValueSet", "http://x/a")
		if err != nil || ok != (want != "") || n.Get("title").String() != want {
			t.Fatalf("%q %t %v, want %q", n.Get("title").String(), ok, err, want)
		}
	}
	find("")
	s.add("ValueSet", "http://x/a", "1", titled("http://x/a", "1", "first"))
	find("") // within the second
	before, err := l.Revision(ctx)
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(Stale)
	find("first")
	if after, err := l.Revision(ctx); err != nil || after == before {
		t.Fatal("the revision did not change", err)
	}
	for range 10 {
		find("first")
	}
	if s.opened != 1 || s.listed != 2 || s.asked > 2 {
		t.Errorf("opened %d, listed %d, asked %d times", s.opened, s.listed, s.asked)
	}
	s.add("ValueSet", "http://x/a", "2", titled("http://x/a", "2", "second"))
	l.Refresh()
	find("second")
	now = now.Add(Stale)
	s.bad = 1
	if _, _, err := l.Find(ctx, "ValueSet", "http://x/a"); err == nil {
		t.Error("a shelf that does not answer was not noticed")
	}
	find("second")
}

func TestLibraryStaysWithinItsMemory(t *testing.T) {
	s := &counted{}
	for i := range 50 {
		url := "http://x/" + string(rune('a'+i%25)) + string(rune('a'+i/25))
		s.add("ValueSet", url, "1", titled(url, "1", strings.Repeat("x", 1000)))
	}
	const bound = 10_000
	l := NewLibrary(s, time.Now, bound)
	for range 2 {
		for _, e := range s.entries {
			if _, ok, err := l.Find(context.Background(), e.Type, e.URL); !ok || err != nil {
				t.Fatal(ok, err)
			}
			if l.trees.Bytes() > bound {
				t.Fatalf("%d bytes are kept", l.trees.Bytes())
			}
		}
	}
	if l.trees.Bytes() == 0 || s.opened < 90 {
		t.Errorf("%d bytes, opened %d times", l.trees.Bytes(), s.opened)
	}
}

func TestLibraryIsSafeForManyAtOnce(t *testing.T) {
	s := &counted{}
	s.add("ValueSet", "http://x/a", "1", titled("http://x/a", "1", "t"))
	var ticks sync.Mutex
	now := time.Unix(0, 0)
	l := NewLibrary(s, func() time.Time { ticks.Lock(); defer ticks.Unlock(); now = now.Add(Stale / 4); return now }, 1<<20)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				if _, ok, err := l.Find(context.Background(), "ValueSet", "http://x/a"); !ok || err != nil {
					t.Error(ok, err)
					return
				}
			}
		})
	}
	wg.Wait()
}
