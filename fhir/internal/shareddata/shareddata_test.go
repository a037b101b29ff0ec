package shareddata

import (
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// archive holds deep/b.json, deep/er/a.json and deep/c.txt.
const archive = `/Td6WFoAAAFpIt42AgAhARwAAAAQz1jM4Cf/ALhdADIZbOAu9K3qUfBp73b66YxkAhziOPEaGJ5GvIAncL4wxPqbdVdIyuAeBkOEtx4V8cvBAkm90h/SB+OU
Go93cLvCN6zteYg29ILTHaaEOMJChiToEwADOBTjchwe5mgWVouNGRClffl0NCFwuIZNkAcJsRu8seMJleDONlzHHrBT5/JYuYjlrhz3mZ4Wu5+A29Drwo8R
MpEU5qEfaucs1ZdDGKr78amSlPcUiNMSxr1aj4ewK6kLNQAAz1MiSwAB0AGAUAAAyXnubT4wDYsCAAAAAAFZWg==`

// compressed is {"a":1} in bzip2.
const compressed = "QlpoOTFBWSZTWTrfA2AAAAKZgBAAIBAgAAAKIAAhgAwCWwbcXckU4UJA63wNgA=="

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	body, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, body, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFolderAndArchiveReadAlike(t *testing.T) {
	root := t.TempDir()
	t.Setenv(Variable, root)
	write(t, filepath.Join(root, "packed.tar.xz"), archive)
	write(t, filepath.Join(root, "folder", "a.json"), base64.StdEncoding.EncodeToString([]byte(`{"a":1}`)))
	write(t, filepath.Join(root, "folder", "b.json"), base64.StdEncoding.EncodeToString([]byte(`{"b":2}`)))
	write(t, filepath.Join(root, "folder", "c.txt"), "")
	write(t, filepath.Join(root, "bzip2", "a.json.bz2"), compressed)
	for set, want := range map[string][]string{"packed": {"a.json", "b.json"}, "folder": {"a.json", "b.json"}, "bzip2": {"a.json.bz2"}} {
		dir := Open(t, set)
		names := Files(t, dir)
		if !slices.Equal(names, want) {
			t.Errorf("%s: %v", set, names)
			continue
		}
		if got := string(Read(t, dir, names[0])); got != `{"a":1}` {
			t.Errorf("%s: %s", set, got)
		}
	}
}

func TestWhatIsNotThere(t *testing.T) {
	root := t.TempDir()
	t.Setenv(Variable, root)
	if _, err := open("nothing"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), Variable) {
		t.Errorf("a test is skipped for %v", err)
	}
	t.Run("skips", func(t *testing.T) {
		defer func() {
			if !t.Skipped() {
				t.Error("not skipped")
			}
		}()
		Open(t, "nothing")
	})
	write(t, filepath.Join(root, "damaged.tar.xz"), compressed)
	if _, err := open("damaged"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a damaged archive would skip the test: %v", err)
	}
}
