package smart

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// Limits bound how often one address may ask, in requests per minute. A client is never limited by what others do in its name.
type Limits struct {
	Address  int // all requests of an address
	Failures int // refused authentications of a client_id from one address
	Register int // registrations of an address, per hour
}

// DefaultLimits suit a server to which apps come from browsers and from a few services.
var DefaultLimits = Limits{Address: 600, Failures: 20, Register: 10}

// limiter counts by fixed windows.
type limiter struct {
	Limits
	now func() time.Time

	mu     sync.Mutex
	counts map[string]*count
}

type count struct {
	n     int
	until time.Time
}

func newLimiter(l Limits, now func() time.Time) *limiter {
	return &limiter{Limits: l, now: now, counts: map[string]*count{}}
}

// maxCounts bounds the memory of a limiter: when it is full, what has expired goes, and if nothing has, all of it.
const maxCounts = 100_000

// over counts one and reports whether there were too many. Counting nothing (by 0) only asks.
func (l *limiter) over(key string, most, by int, window time.Duration) bool {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.counts[key]
	if c == nil || !now.Before(c.until) {
		if by == 0 {
			return false
		}
		if len(l.counts) >= maxCounts {
			l.clear(now)
		}
		c = &count{until: now.Add(window)}
		l.counts[key] = c
	}
	c.n += by
	return c.n > most || by == 0 && c.n >= most
}

func (l *limiter) clear(now time.Time) {
	for k, c := range l.counts {
		if !now.Before(c.until) {
			delete(l.counts, k)
		}
	}
	if len(l.counts) >= maxCounts {
		clear(l.counts)
	}
}

func (l *limiter) request(a netip.Addr) bool {
	return l.over("a"+block(a), l.Address, 1, time.Minute)
}

func (l *limiter) registration(a netip.Addr) bool {
	return l.over("r"+block(a), l.Register, 1, time.Hour)
}

// failed counts a refused authentication; failing asks whether there were too many. Both go by
// address and client, so that nobody locks an app out from elsewhere.
func (l *limiter) failed(address, client string) {
	l.over("f"+address+"|"+client, l.Failures, 1, time.Minute)
}

func (l *limiter) failing(address, client string) bool {
	return l.over("f"+address+"|"+client, l.Failures, 0, time.Minute)
}

// block is what one party has for itself: an IPv4 address, or the first half of an IPv6 address.
func block(a netip.Addr) string {
	a = a.Unmap()
	if a.Is6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}

// Address finds where a request comes from, behind proxies that are trusted: the last address of
// X-Forwarded-For that is none of theirs. What anybody else writes there counts for nothing.
func Address(trusted []netip.Prefix) func(*http.Request) netip.Addr {
	isProxy := func(a netip.Addr) bool {
		for _, p := range trusted {
			if p.Contains(a) {
				return true
			}
		}
		return false
	}
	return func(r *http.Request) netip.Addr {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if err != nil {
			host = r.RemoteAddr
		}
		at, err := netip.ParseAddr(host)
		if err != nil {
			return netip.Addr{}
		}
		at = at.Unmap()
		hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
		for i := len(hops) - 1; i >= 0 && isProxy(at); i-- {
			next, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
			if err != nil {
				break
			}
			at = next.Unmap()
		}
		return at
	}
}

type addressKey struct{}

func addressOf(ctx context.Context) string {
	a, _ := ctx.Value(addressKey{}).(netip.Addr)
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
