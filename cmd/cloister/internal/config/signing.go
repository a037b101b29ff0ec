package config

import (
	"errors"
	"io/fs"
	"os"

	"github.com/cloister-health/cloister/fhir/signature"
)

// Keys reads the key set by which consents are signed, nil without one.
func (a API) Keys() (*signature.Keys, error) {
	if a.SigningKeys == "" {
		return nil, nil //nolint:nilnil // nothing is signed then
	}
	text, err := os.ReadFile(a.SigningKeys)
	if err != nil {
		return nil, fault("CLOISTER_SIGNING_KEYS", "names a file that cannot be read: %v", err)
	}
	k, err := signature.Parse(text)
	if err != nil {
		return nil, fault("CLOISTER_SIGNING_KEYS", "names a file that holds no such keys: %v", err)
	}
	return k, nil
}

// MakeKeys writes a new key set into a file that is not there yet, readable for its owner alone.
func MakeKeys(path string) error {
	set, err := signature.Generate()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the caller's own data directory
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.Write(set)
	return errors.Join(err, f.Close())
}
