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

func open(path string) (io.ReadCloser, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	var r io.Reader
	switch _, suffix := packing(path); suffix {
	case ".bz2":
		r = bzip2.NewReader(bufio.NewReaderSize(f, 1<<16))
	case ".gz":
		r, err = gzip.NewReader(f)
	case ".zst":
		r, err = zstd.NewReader(f)
	default:
		r = f
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return struct {
		io.Reader
		io.Closer
	}{r, f}, nil
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
	defer f.Close()
	name := filepath.Base(path)
	if base, _ := packing(path); !strings.HasSuffix(base, ".ndjson") {
		body, err := io.ReadAll(f)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return submit(item{name: name, body: body})
	}
	in := bufio.NewReaderSize(f, 1<<20)
	var chunk bytes.Buffer
	first := 1
	for line := 1; ; line++ {
		text, err := in.ReadBytes('\n')
		if err != nil && err != io.EOF {
			return fmt.Errorf("%s: line %d: %w", name, line, err)
		}
		chunk.Write(text)
		if end := err == io.EOF; end || line-first+1 == chunkLines {
			if chunk.Len() > 0 {
				if err := submit(item{name: name, body: bytes.Clone(chunk.Bytes()), line: first}); err != nil {
					return err
				}
			}
			if end {
				return nil
			}
			chunk.Reset()
			first = line + 1
		}
	}
}
