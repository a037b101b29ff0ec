package logging

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cloister-health/cloister/fhir/outcome"
)

const canary = "canary-77aa"

var pg = &pgconn.PgError{
	Severity: "ERROR", Code: "23505", Message: `duplicate key value "` + canary + `"`, Detail: "Key (fam)=(" + canary + ") already exists",
	Hint: canary, Where: canary, InternalQuery: canary, TableName: "resource", ConstraintName: "resource_pkey",
}

func TestErrorsLoseWhatTheDatabaseQuotes(t *testing.T) {
	for name, err := range map[string]error{
		"bare":               pg,
		"wrapped":            fmt.Errorf("store: insert: %w", pg),
		"joined":             errors.Join(errors.New("first"), fmt.Errorf("second: %w", pg)),
		"twice":              errors.Join(pg, pg),
		"two of them":        fmt.Errorf("%w and %w", pg, &pgconn.PgError{Code: "22P02", Message: canary}),
		"private cause":      outcome.New(outcome.Internal, "the server failed").Because(fmt.Errorf("store: %w", pg)),
		"wrapped, then both": fmt.Errorf("api: %w", outcome.New(outcome.Internal, "x").Because(pg)),
	} {
		for _, format := range []Format{JSON, Text} {
			var b bytes.Buffer
			New(&b, format, slog.LevelInfo).Error("failed", "err", err, slog.Group("in", "err", err))
			if strings.Contains(b.String(), canary) {
				t.Errorf("%s: the log quotes a value: %s", name, b.String())
			}
			if strings.Count(b.String(), "23505") < 2 {
				t.Errorf("%s: the log does not say what went wrong: %s", name, b.String())
			}
		}
	}
}

func TestErrorKeepsWhatIsUseful(t *testing.T) {
	err := fmt.Errorf("api: %w", outcome.New(outcome.Login, "a valid access token is required").Because(errors.New("oidc: the token has expired")))
	if got, want := Error(err), "api: a valid access token is required: oidc: the token has expired"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := Error(fmt.Errorf("store: %w", pg)), "store: SQLSTATE 23505 table resource constraint resource_pkey"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if Error(nil) != "" {
		t.Error("no error has a text")
	}
}

func TestFormatAndLevel(t *testing.T) {
	var b bytes.Buffer
	log := New(&b, JSON, slog.LevelWarn)
	log.Info("quiet")
	log.Warn("loud", "n", 1)
	var line map[string]any
	if err := json.Unmarshal(b.Bytes(), &line); err != nil || line["msg"] != "loud" {
		t.Errorf("%s: %v", b.String(), err)
	}
}
