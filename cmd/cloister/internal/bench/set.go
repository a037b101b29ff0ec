package bench

import (
	"bytes"
	"compress/bzip2"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"time"
)

// Sets are the data sets that can be measured, by the names that Options.Set takes.
var Sets = []string{"clinic", "clinic-10k", "clinic-100k", "synthea", "synthea-x10"}

// set is what a name of Sets stands for.
type set struct {
	name     string
	synthea  bool
	copies   int // of each patient of Synthea
	patients int // of the sample clinic
}

func (o *Options) set() (set, error) {
	switch o.Set {
	case "":
		if o.Synthea != "" {
			return set{name: "synthea", synthea: true, copies: 1}, nil
		}
		return set{name: "clinic", patients: o.Patients}, nil
	case "clinic":
		return set{name: o.Set, patients: o.Patients}, nil
	case "clinic-10k":
		return set{name: o.Set, patients: 10_000}, nil
	case "clinic-100k":
		return set{name: o.Set, patients: 100_000}, nil
	case "synthea", "synthea-x10":
		s := set{name: o.Set, synthea: true, copies: 1}
		if o.Set == "synthea-x10" {
			s.copies = 10
		}
		return s, nil
	}
	return set{}, fmt.Errorf("bench: the data set %q is none of %s", o.Set, strings.Join(Sets, ", "))
}

func (s set) String() string {
	switch {
	case s.copies > 1:
		return fmt.Sprintf("Synthea transaction Bundles, each patient %d times under other ids, identifiers, names and birth dates", s.copies)
	case s.synthea:
		return "Synthea transaction Bundles"
	default:
		return fmt.Sprintf("the sample clinic, %d patients", s.patients)
	}
}

// unpacked lists the Bundles of dir as plain files, in the order in which they
// must be loaded. Packed ones are unpacked below scratch: what unpacking costs
// is not what is measured.
func unpacked(dir, scratch string) ([]string, error) {
	var out []string
	packed, err := filepath.Glob(filepath.Join(dir, "*.json*"))
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	sort.Strings(packed) // Synthea's hospitals and practitioners sort first, and the others need them
	for _, path := range packed {
		switch {
		case strings.HasSuffix(path, ".json"):
			out = append(out, path)
		case strings.HasSuffix(path, ".json.bz2"):
			plain := filepath.Join(scratch, strings.TrimSuffix(filepath.Base(path), ".bz2"))
			if err := unpack(path, plain); err != nil {
				return nil, fmt.Errorf("bench: %w", err)
			}
			out = append(out, plain)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("bench: the directory of Synthea's Bundles holds no .json and no .json.bz2 file")
	}
	return out, nil
}

func unpack(from, to string) error {
	in, err := os.Open(from) //nolint:gosec // the operator names it
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600) //nolint:gosec // below our scratch
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, bzip2.NewReader(in)); err != nil {
		_ = out.Close()
		return err
	}
	return out.Close()
}

// documents yields the Bundles, one at a time: what belongs to no patient once,
// and every patient as often as the set says. An error of a file ends it and
// goes to failed.
func (s set) documents(files []string, failed *error) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		shared := map[uuid]bool{} // ids of what belongs to no patient
		for number := range s.copies {
			for _, path := range files {
				body, err := os.ReadFile(path) //nolint:gosec // the operator names them
				if err != nil {
					*failed = fmt.Errorf("bench: %w", err)
					return
				}
				if !bytes.Contains(body[:min(len(body), 4096)], []byte(`"Patient"`)) {
					if number > 0 {
						continue
					}
					eachUUID(body, func(_ int, id uuid) { shared[id] = true })
				}
				if number > 0 {
					body = multiply(body, number, shared)
				}
				if !yield(fmt.Sprintf("%s (%d)", filepath.Base(path), number+1), body) {
					return
				}
			}
		}
	}
}

// uuid is the text of one.
type uuid [36]byte

// eachUUID finds every UUID of a text.
func eachUUID(body []byte, each func(at int, id uuid)) {
	for i := 8; i+28 <= len(body); i++ {
		if body[i] != '-' || body[i+5] != '-' || body[i+10] != '-' || body[i+15] != '-' {
			continue
		}
		if id := body[i-8 : i+28]; hexadecimal(id[:8]) && hexadecimal(id[9:13]) && hexadecimal(id[14:18]) && hexadecimal(id[19:23]) && hexadecimal(id[24:]) {
			each(i-8, uuid(id))
			i += 28
		}
	}
}

func hexadecimal(b []byte) bool {
	for _, c := range b {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

var (
	surname    = regexp.MustCompile(`"family": ?"([^"]+)"`)
	born       = regexp.MustCompile(`"birthDate": ?"(\d{4}-\d\d-\d\d)"`)
	identifier = regexp.MustCompile(`("value": ?")(999-\d\d-\d{4}|S\d{8}|X\d+X)"`)
)

// multiply makes another patient out of one: the same record under other ids,
// identifiers, family name and birth date, so that a search finds as many as
// before. References to what is shared stay.
func multiply(body []byte, number int, shared map[uuid]bool) []byte {
	mark := string("ABCDEFGHIJ"[number])
	if m := surname.FindSubmatch(body); m != nil {
		body = bytes.ReplaceAll(body, m[1], []byte(mark+strings.ToLower(string(m[1]))))
	}
	body = born.ReplaceAllFunc(body, func(m []byte) []byte {
		day, err := time.Parse(time.DateOnly, string(born.FindSubmatch(m)[1]))
		if err != nil {
			return m
		}
		return fmt.Appendf(nil, `"birthDate": "%s"`, day.AddDate(0, 0, number).Format(time.DateOnly))
	})
	body = identifier.ReplaceAll(body, []byte("${1}${2}"+mark+`"`))
	eachUUID(body, func(at int, id uuid) {
		if !shared[id] {
			next := other(id, number)
			copy(body[at:], next[:])
		}
	})
	return body
}

// other is the id of the copy of that number: always the same one.
func other(id uuid, number int) (out uuid) {
	var raw [16]byte
	for i, basis := range []uint64{14695981039346656037, 1099511628211} { // FNV-1a over two bases is random enough for ids
		h := basis + uint64(number)*0x9e3779b97f4a7c15 //nolint:gosec // a small number
		for _, c := range id {
			h = (h ^ uint64(c)) * 1099511628211
		}
		h ^= h >> 29
		binary.BigEndian.PutUint64(raw[8*i:], h*0xbf58476d1ce4e5b9)
	}
	hex.Encode(out[:8], raw[:4])
	hex.Encode(out[9:13], raw[4:6])
	hex.Encode(out[14:18], raw[6:8])
	hex.Encode(out[19:23], raw[8:10])
	hex.Encode(out[24:], raw[10:])
	out[8], out[13], out[18], out[23] = '-', '-', '-', '-'
	return out
}
