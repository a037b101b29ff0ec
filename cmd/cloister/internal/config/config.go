// Package config is the configuration of the program, read from flags and the
// environment and checked before anything starts.
//
// Each struct carries its flags as kong tags; its Check method reports all that is
// wrong at once, each fault with the name of the variable and what to do about it.
package config

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloister-health/cloister/authz/oidc"
	"github.com/cloister-health/cloister/fhir/profile"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/envelope"
	"github.com/cloister-health/cloister/fhir/record/export/s3"
)

// fault says what is wrong with one variable. It never quotes the value of a secret.
func fault(variable, format string, args ...any) error {
	return fmt.Errorf("%s %s", variable, fmt.Sprintf(format, args...))
}

// Logging says what is logged.
type Logging struct {
	Level  string `name:"log-level" env:"CLOISTER_LOG_LEVEL" default:"info" help:"Log lines of this level and above: debug, info, warn or error."`
	Format string `name:"log-format" env:"CLOISTER_LOG_FORMAT" placeholder:"FORMAT" help:"Form of the log lines: json or text. Servers write json, all other commands text."`
}

// Check reports what is wrong.
func (l Logging) Check() error {
	_, err := l.SlogLevel()
	if l.Format != "" && l.Format != "json" && l.Format != "text" {
		err = errors.Join(err, fault("CLOISTER_LOG_FORMAT", "is %q: set it to json or text, or leave it out", l.Format))
	}
	return err
}

// SlogLevel is the level as package log/slog has it.
func (l Logging) SlogLevel() (slog.Level, error) {
	for level, name := range map[slog.Level]string{slog.LevelDebug: "debug", slog.LevelInfo: "info", slog.LevelWarn: "warn", slog.LevelError: "error"} {
		if l.Level == name {
			return level, nil
		}
	}
	return 0, fault("CLOISTER_LOG_LEVEL", "is %q: set it to debug, info, warn or error", l.Level)
}

// Database says where the records are.
type Database struct {
	URL string `name:"database-url" env:"CLOISTER_DATABASE_URL" placeholder:"URL" help:"PostgreSQL (14 or newer) that holds the records, such as postgres://user@host/db. Prefer the variable to the flag: other users of the machine can read command lines."`
}

// Check reports what is wrong. A command that brings its own database accepts an empty URL.
func (d Database) Check(required bool) error {
	if d.URL == "" {
		if required {
			return fault("CLOISTER_DATABASE_URL", "is not set: it names the PostgreSQL database that holds the records, such as postgres://cloister@db.example.org/cloister (to try Cloister without one, run cloister dev)")
		}
		return nil
	}
	// pgx's own message may quote parts of the string, and the password is one of them.
	if _, err := pgxpool.ParseConfig(d.URL); err != nil {
		return fault("CLOISTER_DATABASE_URL", "is not a PostgreSQL connection string: write it as postgres://user:password@host:5432/database, with special characters of the password percent-encoded")
	}
	return nil
}

// Keys name the key encryption keys of notes.
type Keys struct {
	Notes string   `name:"notes-key" env:"CLOISTER_NOTES_KEY" placeholder:"URI" help:"Key that wraps the data keys of psychotherapy and SUD counseling notes: file:/path/to/keyset.json (made by cloister keys create) or hcvault://vault.example.org:8200/transit/keys/NAME."`
	Older []string `name:"notes-older-keys" env:"CLOISTER_NOTES_OLDER_KEYS" placeholder:"URI,..." help:"Keys that some data keys are still wrapped under, until cloister keys rewrap has run."`
}

// Check reports what is wrong. A command that stores no notes, or brings its own key, accepts an empty URI.
func (k Keys) Check(required bool) error {
	var errs []error
	switch {
	case k.Notes == "" && required:
		errs = append(errs, fault("CLOISTER_NOTES_KEY", "is not set: it names the key that wraps the data keys of psychotherapy and SUD counseling notes, as %s", envelope.Keepers))
	case k.Notes == "" && len(k.Older) > 0:
		errs = append(errs, fault("CLOISTER_NOTES_OLDER_KEYS", "is set, but CLOISTER_NOTES_KEY is not: name the key that wraps new data keys, too"))
	case k.Notes != "" && envelope.Check(k.Notes) != nil:
		errs = append(errs, fault("CLOISTER_NOTES_KEY", "is %q: write it as %s", k.Notes, envelope.Keepers))
	}
	for _, u := range k.Older {
		if envelope.Check(u) != nil {
			errs = append(errs, fault("CLOISTER_NOTES_OLDER_KEYS", "holds %q: write each as %s", u, envelope.Keepers))
		}
	}
	return errors.Join(errs...)
}

// Open finds the keys; without any it gives nil.
func (k Keys) Open() (*envelope.Keys, error) {
	if k.Notes == "" {
		return nil, nil //nolint:nilnil // no keys are no fault
	}
	keys, err := envelope.Open(k.Notes, k.Older...)
	if err != nil {
		return nil, fault("CLOISTER_NOTES_KEY", "cannot be used: %v", err)
	}
	return keys, nil
}

// Care says who stands in a relation to a patient, and for how long. It holds
// for what is stored from then on, so all programs of a database have the same.
type Care struct {
	EncounterAfter    time.Duration `name:"treating-after-encounter" env:"CLOISTER_TREATING_AFTER_ENCOUNTER" default:"720h" help:"For how long after an Encounter, or a referral, its clinicians treat the patient, such as 720h (30 days)."`
	AppointmentBefore time.Duration `name:"treating-before-appointment" env:"CLOISTER_TREATING_BEFORE_APPOINTMENT" default:"168h" help:"How long before an Appointment its clinicians treat the patient, such as 168h (7 days)."`
	AppointmentAfter  time.Duration `name:"treating-after-appointment" env:"CLOISTER_TREATING_AFTER_APPOINTMENT" default:"24h" help:"For how long after an Appointment its clinicians treat the patient."`
	AgeOfMajority     int           `name:"age-of-majority" env:"CLOISTER_AGE_OF_MAJORITY" default:"18" help:"Age in years at which a parent no longer stands for a patient, by the law of the state: 18, or 19 in Alabama and Nebraska, 21 in Mississippi."`
}

// Check reports what is wrong.
func (c Care) Check() error {
	var errs []error
	const longest = 366 * 24 * time.Hour
	for name, d := range map[string]time.Duration{
		"CLOISTER_TREATING_AFTER_ENCOUNTER": c.EncounterAfter, "CLOISTER_TREATING_BEFORE_APPOINTMENT": c.AppointmentBefore, "CLOISTER_TREATING_AFTER_APPOINTMENT": c.AppointmentAfter,
	} {
		if d <= 0 || d > longest {
			errs = append(errs, fault(name, "is %s: set it to a duration of a year at most, such as 24h", d))
		}
	}
	if c.AgeOfMajority < 12 || c.AgeOfMajority > 25 {
		errs = append(errs, fault("CLOISTER_AGE_OF_MAJORITY", "is %d: set it to the age of majority of the state, such as 18", c.AgeOfMajority))
	}
	return errors.Join(errs...)
}

// API is what serve and dev have in common.
type API struct {
	Care        `embed:""`
	Session     time.Duration `name:"emergency-session" env:"CLOISTER_EMERGENCY_SESSION" default:"60m" help:"For how long a declared emergency holds at most."`
	SignIn      time.Duration `name:"emergency-sign-in" env:"CLOISTER_EMERGENCY_SIGN_IN" default:"5m" help:"How long ago the one who declares an emergency may have signed in (auth_time of her token)."`
	BaseURL     string        `name:"base-url" env:"CLOISTER_BASE_URL" placeholder:"URL" help:"Address of the FHIR endpoint as clients see it, such as https://fhir.example.org/fhir. Links and the audience of tokens are made of it."`
	PageKey     string        `name:"page-key" env:"CLOISTER_PAGE_KEY" placeholder:"BASE64" help:"32 random bytes in base64 that sign paging links. Without it each start makes its own, and links of another start or another server are refused. Make one with: openssl rand -base64 32"`
	SigningKeys string        `name:"signing-keys" env:"CLOISTER_SIGNING_KEYS" placeholder:"FILE" help:"JSON Web Key Set with the EC keys (P-256 or P-384) by which consents are signed: the first, private one signs, the others check what they signed before. Without it no consent can be signed here."`
	AllowUpsert bool          `name:"allow-upsert" env:"CLOISTER_ALLOW_UPSERT" help:"Let an update create the resource if its id does not exist yet."`
	Conditional string        `name:"conditional-delete" env:"CLOISTER_CONDITIONAL_DELETE" default:"single" help:"What a conditional delete may take: single (one resource, or nothing) or multiple (all that meet the condition)."`
	Dangling    bool          `name:"dangling-references" env:"CLOISTER_DANGLING_REFERENCES" help:"Let a delete leave references to what it deletes. Without it such a delete is refused, as far as its caller may see the references."`
	KeyLife     time.Duration `name:"idempotency-life" env:"CLOISTER_IDEMPOTENCY_LIFE" default:"24h" help:"For how long a repeated Idempotency-Key gives the first answer, such as 24h."`
	Validation  profile.Mode  `name:"validation" env:"CLOISTER_VALIDATION" default:"warn" help:"What a write makes of a resource that breaks a rule of R4 or a profile that it declares: off checks nothing, warn tells clients that ask for an OperationOutcome, enforce refuses it (and a profile that is not installed)."`
	Shown       string        `name:"security-labels" env:"CLOISTER_SECURITY_LABELS" default:"exchange" help:"To whom security labels (meta.security) go unasked: exchange (who is not of the practice), all or none. The marks of 42 CFR 2.32 always go."`
	Policies    string        `name:"policies" env:"CLOISTER_POLICIES" placeholder:"DIR" help:"Directory with the policies of practices, one directory each, named by the practice. They add to the policy of the house; SIGHUP reads them again."`
	ExportDir   string        `name:"export-dir" env:"CLOISTER_EXPORT_DIR" placeholder:"DIR" help:"Directory for the files of bulk exports, which all servers of a database share. Each export has a key of its own, which the key of CLOISTER_NOTES_KEY wraps. Without it, and without CLOISTER_EXPORT_S3, nothing is exported in bulk."`
	ExportS3    string        `name:"export-s3" env:"CLOISTER_EXPORT_S3" placeholder:"URL" help:"Bucket for the files of bulk exports, in place of a directory: https://host/bucket/folder?region=region of an S3-compatible store, whose credentials are in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN). What is in it is encrypted here, as in a directory."`
	Hooks       []string      `name:"webhook-hosts" env:"CLOISTER_WEBHOOK_HOSTS" placeholder:"HOST,..." help:"Hosts to which notifications of Subscriptions may be sent, over https and at public addresses: hooks.example.org, or hooks.example.org:8443 where the port is not 443. Without any there are none but by websocket."`
	OwnHooks    []string      `name:"webhook-private-hosts" env:"CLOISTER_WEBHOOK_PRIVATE_HOSTS" placeholder:"HOST,..." help:"The same for hosts that may have an address of a private network."`
	ImportDir   string        `name:"import-dir" env:"CLOISTER_IMPORT_DIR" placeholder:"DIR" help:"Directory for the inputs of bulk imports until they are taken in, which all servers of a database share. Each import has a key of its own, which the key of CLOISTER_NOTES_KEY wraps. Without it nothing is imported in bulk by clients."`
	ImportHosts []string      `name:"import-hosts" env:"CLOISTER_IMPORT_HOSTS" placeholder:"HOST[:PORT],..." help:"Hosts from which inputs of bulk imports are fetched, by https. Without any, inputs are uploaded."`
	ImportNets  []string      `name:"import-networks" env:"CLOISTER_IMPORT_NETWORKS" placeholder:"CIDR,..." help:"Networks that are not public in which such hosts may be, such as 10.1.0.0/16."`
	MaxBody     ByteSize      `name:"max-body" env:"CLOISTER_MAX_BODY" default:"32MiB" help:"Largest request body, such as 512KiB or 32MiB."`
	CORSOrigins []string      `name:"cors-origins" env:"CLOISTER_CORS_ORIGINS" placeholder:"ORIGIN,..." help:"Web origins whose pages may call the API, such as https://app.example.org."`
	Timeout     time.Duration `name:"request-timeout" env:"CLOISTER_REQUEST_TIMEOUT" default:"60s" help:"How long one request may take, such as 60s."`
	Grace       time.Duration `name:"shutdown-grace" env:"CLOISTER_SHUTDOWN_GRACE" default:"20s" help:"How long requests under way may go on after the server was told to stop."`
}

// Check reports what is wrong.
func (a API) Check() error {
	var errs []error
	if a.BaseURL != "" {
		u, err := url.Parse(a.BaseURL)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || strings.HasSuffix(u.Path, "/") {
			errs = append(errs, fault("CLOISTER_BASE_URL", "is %q: write the address of the FHIR endpoint without a slash at its end, such as https://fhir.example.org/fhir", a.BaseURL))
		}
	}
	if a.ExportS3 != "" && a.ExportDir != "" {
		errs = append(errs, fault("CLOISTER_EXPORT_S3", "stands beside CLOISTER_EXPORT_DIR: set one of them"))
	} else if a.ExportS3 != "" {
		if err := s3.Check(a.ExportS3); err != nil {
			errs = append(errs, fault("CLOISTER_EXPORT_S3", "is %q: %v", a.ExportS3, err))
		}
	}
	if _, err := a.pageKey(); err != nil {
		errs = append(errs, err)
	}
	if a.MaxBody < 1<<10 || a.MaxBody > 1<<30 {
		errs = append(errs, fault("CLOISTER_MAX_BODY", "is %s: set it between 1KiB and 1GiB", a.MaxBody))
	}
	for _, o := range a.CORSOrigins {
		u, err := url.Parse(o)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Scheme+"://"+u.Host != o {
			errs = append(errs, fault("CLOISTER_CORS_ORIGINS", "holds %q: write origins as a browser sends them, such as https://app.example.org, separated by commas", o))
		}
	}
	errs = append(errs, a.Care.Check())
	if _, err := a.Inputs(false); err != nil {
		errs = append(errs, err)
	}
	if _, err := a.Webhooks(false); err != nil {
		errs = append(errs, err)
	}
	if a.Session < time.Minute || a.Session > 24*time.Hour {
		errs = append(errs, fault("CLOISTER_EMERGENCY_SESSION", "is %s: set it between 1m and 24h", a.Session))
	}
	if a.SignIn <= 0 || a.SignIn > time.Hour {
		errs = append(errs, fault("CLOISTER_EMERGENCY_SIGN_IN", "is %s: set it to a positive duration of an hour at most, such as 5m", a.SignIn))
	}
	if a.Conditional != "single" && a.Conditional != "multiple" {
		errs = append(errs, fault("CLOISTER_CONDITIONAL_DELETE", "is %q: set it to single or multiple", a.Conditional))
	}
	if !record.Labelled(a.Shown).Valid() {
		errs = append(errs, fault("CLOISTER_SECURITY_LABELS", "is %q: set it to exchange, all or none", a.Shown))
	}
	if a.KeyLife <= 0 {
		errs = append(errs, fault("CLOISTER_IDEMPOTENCY_LIFE", "is %s: set it to a positive duration, such as 24h", a.KeyLife))
	}
	if a.Timeout <= 0 {
		errs = append(errs, fault("CLOISTER_REQUEST_TIMEOUT", "is %s: set it to a positive duration, such as 60s", a.Timeout))
	}
	if a.Grace < 0 {
		errs = append(errs, fault("CLOISTER_SHUTDOWN_GRACE", "is %s: set it to a duration, such as 20s", a.Grace))
	}
	return errors.Join(errs...)
}

const pageKeySize = 32

func (a API) pageKey() ([]byte, error) {
	if a.PageKey == "" {
		return nil, nil
	}
	for _, e := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		if key, err := e.DecodeString(a.PageKey); err == nil && len(key) == pageKeySize {
			return key, nil
		}
	}
	return nil, fault("CLOISTER_PAGE_KEY", "is not %d bytes in base64: make one with openssl rand -base64 %d", pageKeySize, pageKeySize)
}

// Key is the key that signs paging links; without a configured one it is
// random, and log is told what that means.
func (a API) Key(log *slog.Logger) ([]byte, error) {
	key, err := a.pageKey()
	if err != nil || key != nil {
		return key, err
	}
	log.Warn("CLOISTER_PAGE_KEY is not set: paging links end with this process and work on no other server")
	key = make([]byte, pageKeySize)
	_, _ = rand.Read(key) // never fails (crypto/rand)
	return key, nil
}

// Serve is the configuration of a server in production.
type Serve struct {
	Database      `embed:""`
	API           `embed:""`
	Labels        `embed:""`
	Keys          `embed:""`
	Sealing       `embed:""`
	Authorization `embed:""`
	Listen        string   `name:"listen" env:"CLOISTER_LISTEN" default:"127.0.0.1:8080" help:"Address to listen on. It speaks plain HTTP: put a proxy that ends TLS before it."`
	Issuers       []Issuer `name:"issuers" env:"CLOISTER_ISSUERS" placeholder:"ISSUER|AUDIENCE,..." help:"Identity providers whose tokens are accepted, each as issuer URL, or issuer|audience, or issuer|audience|ALG+ALG. The audience is the base URL unless given; the signature algorithms are all asymmetric ones unless given."`
}

// Check reports what is wrong.
func (s Serve) Check() error {
	errs := []error{s.Database.Check(true), s.API.Check(), s.Labels.Check(), s.Keys.Check(true), s.Sealing.Check(true), s.Authorization.Check(), checkAddress("CLOISTER_LISTEN", s.Listen)}
	if s.BaseURL == "" {
		errs = append(errs, fault("CLOISTER_BASE_URL", "is not set: it is the address of the FHIR endpoint as clients see it, such as https://fhir.example.org/fhir"))
	}
	if len(s.Issuers) == 0 && !s.On() {
		errs = append(errs, fault("CLOISTER_ISSUERS", "is not set: it names the identity providers whose tokens are accepted, such as https://id.example.org|https://fhir.example.org/fhir (or set CLOISTER_AUTHORIZATION_SERVER=embedded)"))
	}
	if s.On() && strings.HasPrefix(s.BaseURL, "http://") {
		errs = append(errs, fault("CLOISTER_BASE_URL", "is %q: with CLOISTER_AUTHORIZATION_SERVER=embedded it must use https, or whoever listens on the way has the tokens", s.BaseURL))
	}
	if s.BaseURL != "" && s.On() && !strings.HasSuffix(s.BaseURL, "/fhir") {
		errs = append(errs, fault("CLOISTER_BASE_URL", "is %q: with CLOISTER_AUTHORIZATION_SERVER=embedded it ends in /fhir, and the authorization server is beside it below /smart", s.BaseURL))
	}
	var seen []string
	for _, i := range s.OIDC() {
		switch {
		case slices.Contains(seen, i.URL):
			errs = append(errs, fault("CLOISTER_ISSUERS", "names %s twice: leave one out", i.URL))
		// Also on the loopback interface: what answers there is a development issuer, which gives tokens to anybody.
		case !strings.HasPrefix(i.URL, "https://"):
			errs = append(errs, fault("CLOISTER_ISSUERS", "names %q: a server accepts tokens of issuers with an https URL only", i.URL))
		case s.BaseURL != "" || i.Audience != "":
			if err := i.Validate(); err != nil {
				errs = append(errs, fault("CLOISTER_ISSUERS", "is wrong: %v", err))
			}
		}
		seen = append(seen, i.URL)
	}
	return errors.Join(errs...)
}

// OIDC gives the issuers with their defaults filled in.
func (s Serve) OIDC() []oidc.Issuer {
	out := make([]oidc.Issuer, 0, len(s.Issuers))
	for _, i := range s.Issuers {
		issuer := oidc.Issuer(i)
		if issuer.Audience == "" {
			issuer.Audience = s.BaseURL
		}
		out = append(out, issuer)
	}
	return out
}

// Issuer is one entry of CLOISTER_ISSUERS.
type Issuer oidc.Issuer

// UnmarshalText reads issuer|audience|ALG+ALG, of which only the first is required.
func (i *Issuer) UnmarshalText(text []byte) error {
	parts := strings.Split(string(text), "|")
	if len(parts) > 3 || parts[0] == "" {
		return fault("CLOISTER_ISSUERS", "holds %q: write each issuer as URL, URL|audience or URL|audience|ALG+ALG", text)
	}
	*i = Issuer{URL: parts[0]}
	if len(parts) > 1 {
		i.Audience = parts[1]
	}
	if len(parts) > 2 {
		i.Algorithms = strings.Split(parts[2], "+")
	}
	return nil
}

// ByteSize is a number of bytes, read as 1048576, 512KiB, 32MiB or 1GiB.
type ByteSize int64

var units = []struct {
	suffix string
	size   int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}, {"", 1}}

// UnmarshalText reads a size.
func (b *ByteSize) UnmarshalText(text []byte) error {
	for _, u := range units {
		digits, ok := strings.CutSuffix(string(text), u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n < 0 || n > (1<<62)/u.size {
			break
		}
		*b = ByteSize(n * u.size)
		return nil
	}
	return fmt.Errorf("%q is not a size: write it as 512KiB or 32MiB", text)
}

// String writes the size in the largest unit that divides it.
func (b ByteSize) String() string {
	for _, u := range units {
		if b != 0 && int64(b)%u.size == 0 && u.suffix != "" {
			return strconv.FormatInt(int64(b)/u.size, 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

func checkAddress(variable, address string) error {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fault(variable, "is %q: write it as host:port, such as 127.0.0.1:8080", address)
	}
	return nil
}

// CheckLoopback reports an address that other machines can reach.
func CheckLoopback(variable, address string) error {
	if err := checkAddress(variable, address); err != nil {
		return err
	}
	host, _, _ := net.SplitHostPort(address) // checked above
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fault(variable, "is %q: dev gives tokens to anybody, so it listens on this machine only, such as 127.0.0.1:8080 (to serve others, run cloister serve)", address)
	}
	return nil
}
