package search

import (
	"github.com/cespare/xxhash/v2"

	"github.com/cloister-health/cloister/fhir"
)

// The first byte of what is hashed keeps the kinds of index keys apart; the
// parts are joined by NUL, which no FHIR string holds (R4 datatypes, string).
const (
	kindSystemCode = 's' // parameter, system, code; an absent system is ""
	kindCode       = 'c' // parameter, code in any system
	kindSystem     = 'n' // parameter, system
	kindURI        = 'u' // parameter, uri
	kindLocal      = 'r' // parameter, Type/id
	kindURL        = 'a' // parameter, absolute, urn: or canonical url of a reference
	kindTarget     = 't' // Type/id, whatever the parameter
)

// hash is xxhash64 of the parts. Equal keys may in theory come from different
// values: 64 bits over the few thousand values of one practice make it remote,
// and a collision adds a hit that the Restriction still governs.
func hash(kind byte, parts ...string) int64 {
	var buf [256]byte
	b := append(buf[:0], kind)
	for _, p := range parts {
		b = append(b, 0)
		b = append(b, p...)
	}
	return int64(xxhash.Sum64(b)) //nolint:gosec // the same 64 bits under the sign that bigint has
}

// TargetHash is the index key of "refers to r, in whatever element": every
// resource that holds r as a local reference or url has it in Index.Refs.
func TargetHash(r fhir.Ref) int64 { return hash(kindTarget, r.String()) }
