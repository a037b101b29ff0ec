package importer

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
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
		body, err := io.ReadAll(f)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return submit(item{name: name, body: body, disk: f.read})
	}
	in := bufio.NewReaderSize(f, 1<<20)
	var chunk bytes.Buffer
	var told int64
	first := 1
	for line := 1; ; line++ {
		text, err := in.ReadBytes('\n')
		if err != nil && err != io.EOF {
			return fmt.Errorf("%s: line %d: %w", name, line, err)
		}
		chunk.Write(text)
		if end := err == io.EOF; end || line-first+1 == chunkLines {
			if chunk.Len() > 0 {
				if err := submit(item{name: name, body: bytes.Clone(chunk.Bytes()), line: first, disk: f.read - told}); err != nil {
					return err
				}
				told = f.read
			}
			if end {
				return nil
			}
			chunk.Reset()
			first = line + 1
		}
	}
}
