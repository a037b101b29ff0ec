package identity

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // the published lists are of SHA-1
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// BreachedList is a file of passwords that are known from breaches, as the operator supplies
// it: one SHA-1 per line in hexadecimal, sorted, optionally with ":count" behind it, which is how
// Have I Been Pwned publishes its list. Lines may hold a prefix of at least ten digits instead,
// all of one length. It is searched in place, whatever its size, and nothing is asked over a network.
type BreachedList struct {
	file   *os.File
	size   int64
	digits int // of the hash in a line
}

const (
	fewestDigits = 10
	longestLine  = 64
)

// OpenBreachedList opens the file and checks its shape at the beginning, the middle and the end.
func OpenBreachedList(path string) (*BreachedList, error) {
	f, err := os.Open(path) //nolint:gosec // the operator names it
	if err != nil {
		return nil, fmt.Errorf("identity: the list of breached passwords: %w", err)
	}
	l := &BreachedList{file: f}
	if err := l.check(); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("identity: the list of breached passwords: %w", err)
	}
	return l, nil
}

// Close closes the file.
func (l *BreachedList) Close() error { return l.file.Close() } //nolint:wrapcheck // says it all

func (l *BreachedList) check() error {
	info, err := l.file.Stat()
	if err != nil {
		return err //nolint:wrapcheck // by the caller
	}
	l.size = info.Size()
	first, _, err := l.line(0)
	if err != nil {
		return err
	}
	l.digits = len(first)
	last := first
	for i := int64(1); i <= 64; i++ {
		h, _, err := l.line(l.size * i / 65)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if h < last {
			return errors.New("it is not sorted by hash")
		}
		last = h
	}
	return nil
}

// line reads the first line that begins at or after an offset, and says where it begins; io.EOF if there is none.
func (l *BreachedList) line(at int64) (hash string, begin int64, err error) {
	from := max(at-1, 0)
	buf := make([]byte, 2*longestLine+1)
	n, err := l.file.ReadAt(buf, from)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", 0, err //nolint:wrapcheck // by the caller
	}
	buf = buf[:n]
	begin = at
	if at > 0 {
		i := bytes.IndexByte(buf, '\n')
		if i < 0 {
			if int64(n) < 2*longestLine { // the rest of the last line
				return "", 0, io.EOF
			}
			return "", 0, errors.New("a line is too long")
		}
		buf, begin = buf[i+1:], from+int64(i)+1
	}
	if len(buf) == 0 {
		return "", 0, io.EOF
	}
	text, _, _ := bytes.Cut(buf, []byte("\n"))
	h, _, _ := strings.Cut(strings.TrimRight(string(text), "\r"), ":")
	h = strings.ToUpper(h)
	if len(h) < fewestDigits || len(h) > 2*sha1.Size || strings.Trim(h, "0123456789ABCDEF") != "" || l.digits != 0 && len(h) != l.digits {
		return "", 0, errors.New("a line is not a SHA-1 in hexadecimal, or not of the length of the first")
	}
	return h, begin, nil
}

// Breached searches the file.
func (l *BreachedList) Breached(password string) (bool, error) {
	sum := sha1.Sum([]byte(password)) //nolint:gosec // see above
	want := strings.ToUpper(hex.EncodeToString(sum[:]))[:l.digits]
	low, high := int64(0), l.size // the line, if any, begins in [low, high)
	for low < high {
		mid := low + (high-low)/2
		h, begin, err := l.line(mid)
		switch {
		case errors.Is(err, io.EOF) || err == nil && begin >= high:
			high = mid
		case err != nil:
			return false, fmt.Errorf("identity: the list of breached passwords: %w", err)
		case h == want:
			return true, nil
		case h < want:
			low = begin + 1
		default:
			high = mid
		}
	}
	return false, nil
}
