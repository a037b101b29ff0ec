package search

import (
	"strconv"

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
	kindURL        = 'a' // absolute, urn: or canonical url of a reference
	kindTarget     = 't' // Type/id
	kindParam      = 'p' // reference parameter
	kindUnit       = 'q' // unit as written; UCUM and canonical unit; system, code and ""
	kindOfType     = 'o' // parameter, system and code of Identifier.type, value
	kindPair       = 'x' // composite, both parts
	kindGeneration = 'g' // what a definition of a practice selects
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

// TargetHash is the hash of a resource of this server as the target of
// references: every resource that holds r as a local reference or url has it in Index.Refs.
func TargetHash(r fhir.Ref) int64 {
	var buf [128]byte
	b := append(buf[:0], kindTarget, 0)
	b = append(append(append(b, r.Type...), '/'), r.ID...)
	return int64(xxhash.Sum64(b)) //nolint:gosec // as in hash
}

// URLHash is the hash of a reference to elsewhere: an absolute, urn: or canonical url.
func URLHash(url string) int64 { return hash(kindURL, url) }

// CodingHash is the hash of a coding, wherever it stands in a resource.
func CodingHash(system, code string) int64 { return tokenPart(system, code) }

// ParamKey is what tells the references of one parameter from those of
// another, see [RefEntry]. It is never 0.
func ParamKey(code string) int64 { return hash(kindParam, code) | 1 }

// identifierParam is the parameter under whose name the tokens of
// Reference.identifier stand in the index (modifier :identifier).
func identifierParam(code string) string { return code + ":identifier" }

// ofTypeHash is the key of an identifier with its type (modifier :of-type).
func ofTypeHash(param, typeSystem, typeCode, value string) int64 {
	return hash(kindOfType, param, typeSystem, typeCode, value)
}

// codePart and tokenPart are a token as a part of a composite: the code in any
// system, and in its own, which is "" for none.
func codePart(code string) int64          { return hash(kindCode, "", code) }
func tokenPart(system, code string) int64 { return hash(kindSystemCode, "", system, code) }

// pairHash is the key of one element of a composite of two tokens, or of a
// token and a reference, whose part is its TargetHash or URLHash. The parts are
// in the order of [Param.Components].
func pairHash(composite string, a, b int64) int64 {
	return hash(kindPair, composite, strconv.FormatInt(a, 36), strconv.FormatInt(b, 36))
}

// elementKeys are Key and KeySystem of one element of a composite, see [QuantityEntry].
func elementKeys(composite, system, code string) (key, keySystem int64) {
	return hash(kindCode, composite, code), hash(kindSystemCode, composite, system, code)
}
