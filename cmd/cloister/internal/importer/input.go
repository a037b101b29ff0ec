package importer

import (
	"bufio"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/cloister-health/cloister/fhir/record/intake"
)

// packing splits a file name into the part without the compression suffix and the suffix.
func packing(path string) (base, suffix string) {
	for _, s := range []string{".bz2", ".gz", ".zst"} {
		if strings.HasSuffix(path, s) {
			return strings.TrimSuffix(path, s), s
		}
	}
	return path, ""
}

// source is an open file, unpacked as it is read.
type source struct {
	io.Reader
	file *os.File
	read int64 // bytes taken from the file so far
}

func (s *source) Close() error { return s.file.Close() }

// counted counts the packed bytes below the unpacking.
type counted struct{ s *source }

func (c counted) Read(p []byte) (int, error) {
	n, err := c.s.file.Read(p)
	c.s.read += int64(n)
	return n, err
}

func open(path string) (*source, error) {
	f, err := os.Open(path) //nolint:gosec // the operator names the files
	if err != nil {
		return nil, err
	}
	s := &source{file: f}
	packed := bufio.NewReaderSize(counted{s}, 1<<16)
	switch _, suffix := packing(path); suffix {
	case ".bz2":
		s.Reader = bzip2.NewReader(packed)
	case ".gz":
		s.Reader, err = gzip.NewReader(packed)
	case ".zst":
		s.Reader, err = zstd.NewReader(packed)
	default:
		s.Reader = packed
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// each cuts files into items and hands them on, in order.
func each(files []string, submit func(item) error) error {
	for _, path := range files {
		if err := eachOf(path, submit); err != nil {
			return err
		}
	}
	return nil
}

func eachOf(path string, submit func(item) error) error {
	f, err := open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	name := filepath.Base(path)
	if base, _ := packing(path); !strings.HasSuffix(base, ".ndjson") {
		body, err := io.ReadAll(io.LimitReader(f, maxBundle+1))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		it := item{Unit: intake.Unit{Name: name, Body: body}, disk: f.read}
		if len(body) > maxBundle {
			it.Body, it.fault = nil, fmt.Sprintf("the file is longer than %d MiB: send it as NDJSON, or in several Bundles", maxBundle>>20)
		}
		return submit(it)
	}
	lines := intake.NewLines(f, intake.MaxLine)
	var told int64
	for {
		u, err := lines.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: after line %d: %w", name, u.First-1, err)
		}
		u.Name = name
		if err := submit(item{Unit: u, disk: f.read - told}); err != nil {
			return err
		}
		told = f.read
	}
}

// maxBundle is how long a file that is not NDJSON may be, unpacked.
const maxBundle = 512 << 20
