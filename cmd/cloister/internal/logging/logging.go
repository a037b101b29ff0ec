// Package logging makes the structured log, which must not carry health data.
//
// Callers log what they know to be harmless: routes, codes, counts, durations.
// What they cannot know is the text of an error, which may quote a value on
// its way through the database; this package cuts that out of every error.
package logging

import (
	"errors"
	"io"
	"log/slog"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cloister-health/cloister/fhir/outcome"
)

// Format is the form of the log's lines.
type Format string

// The formats.
const (
	JSON Format = "json"
	Text Format = "text"
)

// New makes a log that writes lines of at least that level to w.
func New(w io.Writer, format Format, level slog.Level) *slog.Logger {
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: replace}
	if format == JSON {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

func replace(_ []string, a slog.Attr) slog.Attr {
	if err, ok := a.Value.Any().(error); ok {
		a.Value = slog.StringValue(Error(err))
	}
	return a
}

// Error is the text of err for the log: with the private causes that
// [outcome.Error] keeps from clients, and without what PostgreSQL quotes of values.
func Error(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	// errors.As stops at the first of a kind, so the whole tree is walked.
	walk(err, func(e error) {
		switch e := e.(type) { //nolint:errorlint // walk visits each error by itself
		case *pgconn.PgError:
			text = strings.ReplaceAll(text, e.Error(), database(e))
		case *outcome.Error:
			if cause := e.Unwrap(); cause != nil {
				text += ": " + Error(cause)
			}
		}
	})
	return text
}

// database is what may be said of an error of PostgreSQL: its message, detail and
// hint quote values; its code and the names of the schema do not.
func database(e *pgconn.PgError) string {
	s := "SQLSTATE " + e.Code
	for _, name := range []struct{ what, value string }{{"table", e.TableName}, {"column", e.ColumnName}, {"constraint", e.ConstraintName}} {
		if name.value != "" {
			s += " " + name.what + " " + name.value
		}
	}
	return s
}

// walk visits err and everything it wraps; the cause of an outcome.Error is left to the visit.
func walk(err error, visit func(error)) {
	visit(err)
	if _, ok := err.(*outcome.Error); ok { //nolint:errorlint // this very error, not one that it wraps
		return
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range many.Unwrap() {
			walk(e, visit)
		}
		return
	}
	if next := errors.Unwrap(err); next != nil {
		walk(next, visit)
	}
}
