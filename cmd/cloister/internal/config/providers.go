package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/cloister-health/cloister/authz/identity"
	"github.com/cloister-health/cloister/authz/oidc"
)

// Providers names the identity providers by which people can sign in.
type Providers struct {
	ProviderDir string `name:"providers" env:"CLOISTER_PROVIDERS" placeholder:"DIR" help:"Directory with the identity providers by which people can sign in: NAME.json each, where NAME is part of addresses. Needs the embedded authorization server."`
}

// provider is one file of the directory.
type provider struct {
	Title      string              `json:"title"`
	Issuer     string              `json:"issuer"`
	ID         string              `json:"client_id"`
	SecretFile string              `json:"client_secret_file"`
	SecretEnv  string              `json:"client_secret_env"`
	Practices  []string            `json:"practices"`
	Scopes     *[]string           `json:"scopes"`
	Algorithms []string            `json:"algorithms"`
	ACR        []string            `json:"acr"`
	Second     string              `json:"second_factor"`
	MaxAge     string              `json:"max_age"`
	Email      string              `json:"email_claim"`
	Verified   string              `json:"email_verified"`
	Name       string              `json:"name_claim"`
	RoleClaim  claimPath           `json:"role_claim"`
	Roles      map[string][]string `json:"roles"`
}

// claimPath is the name of a claim, or a list of names that leads into one.
type claimPath []string

// UnmarshalJSON reads a string or a list of strings.
func (c *claimPath) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*c = claimPath{one}
		return nil
	}
	var list []string
	if err := json.Unmarshal(text, &list); err != nil {
		return errors.New("role_claim is neither the name of a claim nor a list of names that leads to it")
	}
	*c = list
	return nil
}

// maxProvider bounds a file, in bytes.
const maxProvider = 64 << 10

// Read reads the directory. Each fault names the file and the field, and no secret. local is for dev alone: it lets
// a provider be on this machine, without https.
func (p Providers) Read(local bool) ([]oidc.Client, error) {
	if p.ProviderDir == "" {
		return nil, nil
	}
	out, err := ReadProviders(os.DirFS(p.ProviderDir), os.Getenv, local)
	if err != nil {
		return nil, fault("CLOISTER_PROVIDERS", "is faulty:\n%v", err)
	}
	return out, nil
}

// Check reports what is wrong.
func (p Providers) Check(local bool) error {
	_, err := p.Read(local)
	return err
}

func (a Authorization) checkProviders() error {
	if a.ProviderDir != "" && !a.On() {
		return fault("CLOISTER_PROVIDERS", "is set: people sign in here with CLOISTER_AUTHORIZATION_SERVER=embedded only")
	}
	return a.Providers.Check(false)
}

// ReadProviders reads the providers of a directory, in the order of their names. env gives variables.
func ReadProviders(dir fs.FS, env func(string) string, local bool) ([]oidc.Client, error) {
	entries, err := fs.ReadDir(dir, ".")
	if err != nil {
		return nil, errors.New("the directory cannot be read")
	}
	var out []oidc.Client
	var errs []error
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || e.IsDir() {
			continue
		}
		c, err := readProvider(dir, name, env)
		if err == nil && !local && !strings.HasPrefix(c.Issuer, "https://") {
			err = errors.New("issuer must use https")
		}
		if err == nil {
			err = c.Validate()
		}
		for _, o := range out {
			if err == nil && o.Issuer == c.Issuer {
				err = fmt.Errorf("issuer is that of %s.json", o.Name)
			}
		}
		if err != nil {
			errs = append(errs, within(e.Name(), err))
			continue
		}
		out = append(out, c)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, errors.New("the directory has no NAME.json")
	}
	return out, nil
}

// within puts the name of the file before each of the faults.
func within(file string, err error) error {
	lines := strings.Split(err.Error(), "\n")
	for i, l := range lines {
		lines[i] = "  " + file + ": " + l
	}
	return errors.New(strings.Join(lines, "\n"))
}

func readProvider(dir fs.FS, name string, env func(string) string) (oidc.Client, error) {
	file, err := dir.Open(name + ".json")
	if err != nil {
		return oidc.Client{}, errors.New("cannot be read")
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, maxProvider))
	if err != nil {
		return oidc.Client{}, errors.New("cannot be read")
	}
	var f provider
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return oidc.Client{}, errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return oidc.Client{}, errors.New("has something after the object")
	}
	c := oidc.Client{
		Name: name, Title: f.Title, Issuer: f.Issuer, ID: f.ID, Algorithms: f.Algorithms, Practices: f.Practices, Scopes: []string{"email", "profile"},
		Assurance: identity.Assurance{ACR: f.ACR},
		Claims:    oidc.Claims{Email: f.Email, Name: f.Name, Roles: f.RoleClaim, Map: f.Roles},
	}
	if f.Scopes != nil {
		c.Scopes = slices.DeleteFunc(*f.Scopes, func(s string) bool { return s == "openid" })
	}
	var errs []error
	if c.Secret, err = f.secret(dir, env); err != nil {
		errs = append(errs, err)
	}
	switch f.Second {
	case "", "provider":
	case "own":
		c.Assurance.Own = true
	default:
		errs = append(errs, fmt.Errorf("second_factor is %q: write provider or own", f.Second))
	}
	switch f.Verified {
	case "", "claim":
	case "always":
		c.Claims.Trusted = true
	default:
		errs = append(errs, fmt.Errorf("email_verified is %q: write claim or always", f.Verified))
	}
	if f.MaxAge != "" {
		if c.MaxAge, err = time.ParseDuration(f.MaxAge); err != nil || c.MaxAge <= 0 {
			errs = append(errs, fmt.Errorf("max_age is %q: write a duration, such as 8h", f.MaxAge))
		}
	}
	return c, errors.Join(errs...)
}

// secret reads the client secret. What it holds is in no error.
func (f provider) secret(dir fs.FS, env func(string) string) (oidc.Secret, error) {
	var text, field string
	switch {
	case f.SecretFile != "" && f.SecretEnv != "":
		return "", errors.New("client_secret_file and client_secret_env are both there: leave one out")
	case f.SecretFile != "":
		field = "client_secret_file"
		read := func(name string) ([]byte, error) { return fs.ReadFile(dir, name) }
		if path.IsAbs(f.SecretFile) {
			read = os.ReadFile
		}
		b, err := read(f.SecretFile)
		if err != nil {
			return "", errors.New("client_secret_file names a file that cannot be read, from the directory of the providers on")
		}
		text = strings.TrimRightFunc(string(b), unicode.IsSpace)
	case f.SecretEnv != "":
		field = "client_secret_env"
		text = env(f.SecretEnv)
	default:
		return "", errors.New("client_secret_file (or client_secret_env) is missing: it says where the client secret is")
	}
	if text == "" || len(text) > 4096 || strings.ContainsFunc(text, unicode.IsControl) {
		return "", errors.New(field + " leads to no secret: one line is expected")
	}
	return oidc.Secret(text), nil
}
