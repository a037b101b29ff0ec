package tabular_test

import (
	"bytes"
	"encoding/base64"
	"encoding/csv"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/view"
	"github.com/cloister-health/cloister/fhir/view/tabular"
)

func parse(t testing.TB, columns string) *view.View {
	t.Helper()
	v, err := view.Parse([]byte(`{"name":"things","resource":"Patient","select":[{"column":[` + columns + `]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// write gives the file of rows.
func write(t testing.TB, format string, v *view.View, rows ...view.Row) []byte {
	t.Helper()
	f, ok := tabular.FormatNamed(format)
	if !ok {
		t.Fatal(format)
	}
	var b bytes.Buffer
	w, err := f.New(&b, v)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const several = `{"name":"zed","path":"id","type":"id"},{"name":"on","path":"active","type":"boolean"},{"name":"n","path":"1","type":"integer"},
	{"name":"big","path":"1","type":"integer64"},{"name":"d","path":"1.0","type":"decimal"},{"name":"born","path":"birthDate","type":"date"},
	{"name":"sys","path":"language","type":"code"}`

func one(values ...string) view.Row {
	r := make(view.Row, len(values))
	for i, v := range values {
		if v != "" {
			r[i] = []string{v}
		}
	}
	return r
}

func TestCSV(t *testing.T) {
	got := write(t, "csv", parse(t, several), one("a", "true", "1", "", "1.50", "2024", "x, \"y\""), one("b", "", "", "9007199254740993", "", "", "line\nbreak"))
	want := "zed,on,n,big,d,born,sys\r\na,true,1,,1.50,2024,\"x, \"\"y\"\"\"\r\nb,,,9007199254740993,,,\"line\r\nbreak\"\r\n"
	if string(got) != want {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
	if rows, err := csv.NewReader(bytes.NewReader(got)).ReadAll(); err != nil || len(rows) != 3 || rows[1][6] != `x, "y"` {
		t.Errorf("%v, %v", rows, err)
	}
	f, _ := tabular.FormatNamed("csv")
	if _, err := f.New(io.Discard, parse(t, `{"name":"l","path":"name.given","collection":true}`)); outcome.Of(err).Issues[0].Category != outcome.NotSupported {
		t.Error(err)
	}
}

// read shows the columns and rows of a Parquet file.
func read(t testing.TB, file []byte) (columns, rows string) {
	t.Helper()
	f, err := parquet.OpenFile(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range f.Root().Columns() {
		leaf := c
		for !leaf.Leaf() {
			leaf = leaf.Columns()[0]
		}
		names = append(names, c.Name()+":"+leaf.Type().String())
	}
	var lines []string
	for _, g := range f.RowGroups() {
		r := g.Rows()
		buf := make([]parquet.Row, 10)
		for {
			n, err := r.ReadRows(buf)
			for _, row := range buf[:n] {
				cells := make([]string, len(names))
				for _, v := range row {
					s := "-"
					if !v.IsNull() {
						s = v.String()
					}
					if v.RepetitionLevel() > 0 {
						s = cells[v.Column()] + "," + s
					}
					cells[v.Column()] = s
				}
				lines = append(lines, strings.Join(cells, "|"))
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return strings.Join(names, " "), strings.Join(lines, " ")
}

func TestParquet(t *testing.T) {
	v := parse(t, several+`,{"name":"all","path":"name.given","type":"string","collection":true}`)
	a, b := one("a", "true", "-7", "", "1.50", "2024", "x", ""), one("b", "false", "", "9007199254740993", "", "", "", "")
	a[7] = []string{"p", "q", "r"}
	file := write(t, "parquet", v, a, b)
	columns, rows := read(t, file)
	if want := "zed:STRING on:BOOLEAN n:INT(32,true) big:INT(64,true) d:STRING born:STRING sys:STRING all:STRING"; columns != want {
		t.Errorf("columns are %s", columns)
	}
	if want := "a|true|-7|-|1.50|2024|x|p,q,r b|false|-|9007199254740993|-|-|-|-"; rows != want {
		t.Errorf("rows are %s", rows)
	}
	if again := write(t, "parquet", v, a, b); !bytes.Equal(file, again) {
		t.Error("the same rows make another file")
	}
	if _, none := read(t, write(t, "parquet", v)); none != "" {
		t.Errorf("an empty table has %s", none)
	}
}

func TestParquetRefusesWhatDoesNotFit(t *testing.T) {
	f, _ := tabular.FormatNamed("parquet")
	w, err := f.New(io.Discard, parse(t, `{"name":"n","path":"1","type":"integer"}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(one("2147483648")); err == nil || err.Error() != "column n gets a value that does not fit its type" {
		t.Error(err)
	}
}

// TestParquetIsStreamed writes a table of which a part would be too much to keep.
func TestParquetIsStreamed(t *testing.T) {
	f, _ := tabular.FormatNamed("parquet")
	w, err := f.New(io.Discard, parse(t, `{"name":"a","path":"id"},{"name":"b","path":"id","type":"code"}`))
	if err != nil {
		t.Fatal(err)
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, most := heap(), uint64(0)
	const rows, size = 40_000, 4_000 // 160 MB
	dice, raw := rand.NewChaCha8([32]byte{}), make([]byte, size*3/4)
	for i := range rows {
		_, _ = dice.Read(raw) // never fails; what is random does not compress
		if err := w.Write(one(base64.StdEncoding.EncodeToString(raw), "c")); err != nil {
			t.Fatal(err)
		}
		if i%5000 == 0 {
			most = max(most, heap())
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if most > before+80<<20 {
		t.Errorf("%d MiB were kept", (most-before)>>20)
	}
}
