// Package s3 keeps the objects of bulk exports in a bucket of an S3-compatible store.
package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"path"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/cloister-health/cloister/fhir/record/export"
)

// Bucket is an [export.Sink]. What is in it is encrypted before it comes here.
type Bucket struct {
	client       *minio.Client
	name, prefix string
}

var _ export.Sink = (*Bucket)(nil)

// piece is how much of an object is in memory while it is written: parts of an upload
// are at least 5 MiB.
const piece = 5 << 20

// Check reports what is wrong with the address of a bucket, see [Open].
func Check(address string) error {
	_, err := parse(address)
	return err
}

// parse reads an address.
func parse(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || strings.Trim(u.Path, "/") == "" {
		return nil, errors.New("write the address of a bucket, such as https://s3.eu-central-1.amazonaws.com/bucket/folder?region=eu-central-1")
	}
	for name := range u.Query() {
		if name != "region" {
			return nil, errors.New("the address of a bucket has one parameter: region")
		}
	}
	switch ip := net.ParseIP(u.Hostname()); {
	case u.Scheme == "https":
	case u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()):
	default:
		return nil, errors.New("a bucket that is not on this machine is reached over https")
	}
	return u, nil
}

// Open opens the bucket at https://host[:port]/bucket[/folder][?region=region]. The
// credentials are those of AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN.
func Open(ctx context.Context, address string) (*Bucket, error) {
	u, err := parse(address)
	if err != nil {
		return nil, fmt.Errorf("s3: %w", err)
	}
	name, prefix, _ := strings.Cut(strings.Trim(u.Path, "/"), "/")
	client, err := minio.New(u.Host, &minio.Options{
		Creds: credentials.NewEnvAWS(), Secure: u.Scheme == "https", Region: u.Query().Get("region"), BucketLookup: minio.BucketLookupAuto,
	})
	if err != nil {
		return nil, fmt.Errorf("s3: %w", err)
	}
	switch there, err := client.BucketExists(ctx, name); {
	case err != nil:
		return nil, fmt.Errorf("s3: the bucket cannot be reached: %w", err)
	case !there:
		return nil, errors.New("s3: there is no such bucket, or the credentials of AWS_ACCESS_KEY_ID do not open it")
	}
	return &Bucket{client, name, prefix}, nil
}

func (b *Bucket) key(name string) (string, error) {
	if !export.Named(name) {
		return "", errors.New("s3: an object without a name of ours")
	}
	return path.Join(b.prefix, name+".part"), nil
}

// Create implements [export.Sink].
func (b *Bucket) Create(ctx context.Context, name string) (io.WriteCloser, error) {
	key, err := b.key(name)
	if err != nil {
		return nil, err
	}
	from, to := io.Pipe()
	u := &upload{to: to, done: make(chan error, 1)}
	go func() {
		_, err := b.client.PutObject(ctx, b.name, key, from, -1, minio.PutObjectOptions{
			PartSize: piece, NumThreads: 1, ContentType: "application/octet-stream",
			DisableContentSha256: true, // what is sealed says itself whether it is whole
		})
		_ = from.CloseWithError(errors.Join(err, io.ErrClosedPipe)) // whoever goes on writing learns why
		u.done <- err
	}()
	return u, nil
}

// upload is an object that is being written. It is there once it is closed.
type upload struct {
	to    *io.PipeWriter
	done  chan error
	ended bool
}

func (u *upload) Write(p []byte) (int, error) {
	n, err := u.to.Write(p)
	if err != nil {
		return n, fmt.Errorf("s3: %w", err)
	}
	return n, nil
}

// Close waits until the store has the whole object.
func (u *upload) Close() error {
	if u.ended {
		return errors.New("s3: an object is closed twice")
	}
	u.ended = true
	_ = u.to.Close() // it never fails (io.PipeWriter)
	if err := <-u.done; err != nil {
		return fmt.Errorf("s3: %w", err)
	}
	return nil
}

// Open implements [export.Sink].
func (b *Bucket) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	key, err := b.key(name)
	if err != nil {
		return nil, err
	}
	o, err := b.client.GetObject(ctx, b.name, key, minio.GetObjectOptions{})
	if err != nil {
		return nil, fmt.Errorf("s3: %w", err)
	}
	if _, err := o.Stat(); err != nil { // nothing is asked for before the first byte is
		return nil, fmt.Errorf("s3: %w", errors.Join(err, o.Close()))
	}
	return o, nil
}

// Remove implements [export.Sink]. An upload that nobody came to the end of is removed, too.
func (b *Bucket) Remove(ctx context.Context, name string) error {
	key, err := b.key(name)
	if err != nil {
		return err
	}
	if err := b.client.RemoveIncompleteUpload(ctx, b.name, key); err != nil && minio.ToErrorResponse(err).Code != minio.NoSuchUpload {
		return fmt.Errorf("s3: %w", err)
	}
	if err := b.client.RemoveObject(ctx, b.name, key, minio.RemoveObjectOptions{}); err != nil {
		return fmt.Errorf("s3: %w", err)
	}
	return nil
}
