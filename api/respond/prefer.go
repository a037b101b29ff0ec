package respond

import (
	"strings"

	"github.com/cloister-health/cloister/authz/obligation"
)

// Return says what a write sends back (R4 http.html, Prefer: return=...).
type Return uint8

// The preferences. Without one a create or an update answers with what it
// stored, as most clients expect; an entry of a batch or a transaction does not.
const (
	Unstated Return = iota
	Minimal
	Representation
	OperationOutcome
)

// Prefer is the Prefer header (RFC 7240), as far as this server honours it.
type Prefer struct {
	Return Return
	// Lenient ignores unknown search parameters; without it they are refused,
	// because a filter that is silently dropped discloses more than was asked for.
	Lenient bool
	// Async asks for an answer that is fetched later.
	Async bool
	// Labels asks for the security labels of what is released.
	Labels obligation.Labelling
}

// ParsePrefer reads the Prefer header fields; what it does not know it ignores.
func ParsePrefer(fields []string) (p Prefer) {
	for _, f := range fields {
		for _, token := range strings.FieldsFunc(f, func(r rune) bool { return r == ',' || r == ';' }) {
			name, value, _ := strings.Cut(strings.TrimSpace(token), "=")
			value = strings.Trim(strings.TrimSpace(value), `"`)
			switch strings.ToLower(strings.TrimSpace(name)) {
			case "return":
				switch value {
				case "minimal":
					p.Return = Minimal
				case "representation":
					p.Return = Representation
				case "OperationOutcome":
					p.Return = OperationOutcome
				}
			case "respond-async":
				p.Async = true
			case "security-labels":
				p.Labels = obligation.Labels
				if value == "detailed" {
					p.Labels = obligation.Detailed
				}
			case "handling":
				p.Lenient = value == "lenient"
			}
		}
	}
	return p
}

// Outcome reports whether the answer to a write is an OperationOutcome.
func (p Prefer) Outcome() bool { return p.Return == OperationOutcome }

// Represent reports whether the answer to a write holds what it stored.
func (p Prefer) Represent() bool { return p.Return == Unstated || p.Return == Representation }

// ParseKey reads an Idempotency-Key: a string of RFC 8941, or the same without
// its quotation marks, as many clients send it.
func ParseKey(field string) (string, bool) {
	field = strings.TrimSpace(field)
	if inner, ok := strings.CutPrefix(field, `"`); ok {
		if field, ok = strings.CutSuffix(inner, `"`); !ok {
			return "", false
		}
	}
	if field == "" || len(field) > 255 {
		return "", false
	}
	for i := 0; i < len(field); i++ {
		if c := field[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return "", false
		}
	}
	return field, true
}
