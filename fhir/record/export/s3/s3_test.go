package s3_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/cloister-health/cloister/fhir/record/export/s3"
	"github.com/cloister-health/cloister/fhir/record/export/sinktest"
)

// store is an S3-compatible store in this process.
func store(t *testing.T) (address string, backend *s3mem.Backend) {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	backend = s3mem.New()
	if err := backend.CreateBucket("exports"); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(gofakes3.New(backend, gofakes3.WithAutoBucket(false)).Server())
	t.Cleanup(server.Close)
	return server.URL, backend
}

func TestConformance(t *testing.T) {
	address, backend := store(t)
	b, err := s3.Open(context.Background(), address+"/exports/a/folder?region=us-east-1")
	if err != nil {
		t.Fatal(err)
	}
	sinktest.Run(t, b, func() int {
		list, err := backend.ListBucket("exports", nil, gofakes3.ListBucketPage{})
		if err != nil {
			t.Fatal(err)
		}
		return len(list.Contents)
	})
}

func TestOpenRefuses(t *testing.T) {
	address, _ := store(t)
	for _, bad := range []string{
		"", "exports", address, address + "/", "http://s3.example/exports", "https://key:secret@s3.example/exports", "ftp://127.0.0.1/exports",
		"https://s3.example/exports?key=1", address + "/absent",
	} {
		if _, err := s3.Open(context.Background(), bad); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// swallow answers a multipart upload, and keeps nothing of it.
func swallow(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	switch q := r.URL.Query(); {
	case q.Has("uploads"):
		_, _ = io.WriteString(w, `<InitiateMultipartUploadResult><Bucket>exports</Bucket><Key>k</Key><UploadId>1</UploadId></InitiateMultipartUploadResult>`)
	case r.Method == http.MethodDelete:
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodPut:
		w.Header().Set("ETag", `"etag"`)
	case r.Method == http.MethodPost:
		_, _ = io.WriteString(w, `<CompleteMultipartUploadResult><Bucket>exports</Bucket><Key>k</Key><ETag>"etag"</ETag></CompleteMultipartUploadResult>`)
	}
}

func TestMemory(t *testing.T) {
	store(t) // for its credentials
	server := httptest.NewServer(http.HandlerFunc(swallow))
	t.Cleanup(server.Close)
	b, err := s3.Open(context.Background(), server.URL+"/exports/a/folder?region=us-east-1")
	if err != nil {
		t.Fatal(err)
	}
	sinktest.Memory(t, b)
}
