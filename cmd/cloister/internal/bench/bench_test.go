package bench

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

// TestWholeRun measures a very small clinic: both sides must answer alike, and
// the report must hold what it promises. What the numbers are is not its business.
func TestWholeRun(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: no measurement")
	}
	var out, progress bytes.Buffer
	o := Options{
		DSN: cluster.NewDatabase(t, cluster.Template{}), Patients: 20, Clients: []int{2}, Duration: 300 * time.Millisecond, Rounds: 1,
		Markdown: true, Progress: &progress,
	}
	if err := Run(context.Background(), o, &out); err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	for _, want := range []string{
		"| read by id | 2 | raw |", "| read by id | 2 | Cloister |", "| search by patient and code | 2 | Cloister |",
		"Cloister : COPY = ", "kB per resource", "fsync", "a therapist",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, out.String())
		}
	}
	// The second run finds the data there, and says that it measured no load.
	out.Reset()
	o.Markdown = false
	if err := Run(context.Background(), o, &out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "Loading was not measured") || strings.Contains(out.String(), "COPY =") {
		t.Errorf("a second run claims to have measured a load:\n%s", out.String())
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []Options{{Clients: []int{0}}, {Patients: -1}, {Duration: -1}, {Rounds: -1}, {Workers: -1}, {MaxConns: -1}} {
		if err := Run(context.Background(), o, &bytes.Buffer{}); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}

func TestClientReadsBothFramings(t *testing.T) {
	ctx := context.Background()
	big := strings.Repeat("0123456789", 5000)
	address, stop, err := serve(ctx, func(string) (http.Handler, error) {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/length":
				w.Header().Set("Content-Length", "5")
				_, _ = w.Write([]byte("hello"))
			case "/chunks":
				for range 3 {
					_, _ = w.Write([]byte(big))
					if err := http.NewResponseController(w).Flush(); err != nil {
						t.Error(err)
					}
				}
			default:
				w.WriteHeader(http.StatusNotFound)
			}
		}), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	c, err := dial(ctx, address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.conn.Close() }()
	for range 2 { // on one connection
		for path, want := range map[string]string{"/length": "hello", "/chunks": big + big + big} {
			status, err := c.do(get(address, path, ""))
			if err != nil || status != 200 || c.body.String() != want {
				t.Fatalf("%s: %d, %v, %d bytes", path, status, err, c.body.Len())
			}
		}
		if status, err := c.do(get(address, "/none", "")); err != nil || status != 404 {
			t.Fatalf("none: %d, %v", status, err)
		}
	}
	if _, err := drive(ctx, address, [][]byte{get(address, "/none", "")}, 2, 50*time.Millisecond); err == nil {
		t.Error("answers of 404 count as work")
	}
}

func TestMedian(t *testing.T) {
	if got := median([]float64{3, 1, 2}); got != 2 {
		t.Errorf("the median of 3, 1, 2 is %v", got)
	}
}
