package tabular

import (
	"io"
	"slices"
	"strconv"

	"github.com/parquet-go/parquet-go"

	"github.com/cloister-health/cloister/fhir/view"
)

// What a parquet file keeps in memory until it writes a row group.
const (
	groupRows  = 100_000
	groupBytes = 16 << 20
	batchRows  = 256
)

// parquetFile is Apache Parquet with a typed column for each of the view:
//
//   - boolean is BOOLEAN
//   - integer, positiveInt and unsignedInt are INT32, integer64 is INT64
//   - anything else is a string as FHIR writes it: a decimal has its precision, a date what is known of it
//   - a collection is a LIST, with no list for no value
type parquetFile struct {
	w       *parquet.GenericWriter[any]
	columns []parquetColumn
	rows    []parquet.Row
	values  []parquet.Value // of the rows of the batch
	group   int             // rows in the row group
	bytes   int
}

type parquetColumn struct {
	view.Column
	make func(literal string) (parquet.Value, bool)
}

func newParquet(w io.Writer, v *view.View) (Writer, error) {
	p := &parquetFile{}
	root := ordered{Group: parquet.Group{}}
	for _, c := range v.Columns() {
		node, makes := leaf(c.Type)
		if c.Collection {
			node = parquet.List(node)
		}
		root.Group[c.Name] = parquet.Optional(node)
		root.names = append(root.names, c.Name)
		p.columns = append(p.columns, parquetColumn{c, makes})
	}
	name := v.Name()
	if name == "" {
		name = "view"
	}
	p.w = parquet.NewGenericWriter[any](w, parquet.NewSchema(name, root), parquet.Compression(&parquet.Zstd), parquet.CreatedBy("cloister", "1", "view"))
	return p, nil
}

// ordered is a group whose fields stand in the order of the view.
type ordered struct {
	parquet.Group
	names []string
}

func (o ordered) Fields() []parquet.Field {
	fields := o.Group.Fields()
	slices.SortFunc(fields, func(a, b parquet.Field) int { return slices.Index(o.names, a.Name()) - slices.Index(o.names, b.Name()) })
	return fields
}

func leaf(typ string) (parquet.Node, func(string) (parquet.Value, bool)) {
	switch typ {
	case "boolean":
		return parquet.Leaf(parquet.BooleanType), func(s string) (parquet.Value, bool) {
			return parquet.BooleanValue(s == "true"), s == "true" || s == "false"
		}
	case "integer", "positiveInt", "unsignedInt":
		return parquet.Int(32), func(s string) (parquet.Value, bool) {
			i, err := strconv.ParseInt(s, 10, 32)
			return parquet.Int32Value(int32(i)), err == nil
		}
	case "integer64":
		return parquet.Int(64), func(s string) (parquet.Value, bool) {
			i, err := strconv.ParseInt(s, 10, 64)
			return parquet.Int64Value(i), err == nil
		}
	}
	node := parquet.String()
	if typ == "code" || typ == "uri" || typ == "canonical" { // few, and often the same
		node = parquet.Encoded(node, &parquet.RLEDictionary)
	}
	return node, func(s string) (parquet.Value, bool) { return parquet.ByteArrayValue([]byte(s)), true }
}

func (p *parquetFile) Write(r view.Row) error {
	from := len(p.values)
	for i, values := range r {
		c := p.columns[i]
		if len(values) == 0 {
			p.values = append(p.values, parquet.NullValue().Level(0, 0, i))
			continue
		}
		for n, literal := range values {
			v, ok := c.make(literal)
			if !ok {
				return out(c.Name)
			}
			definition, repetition := 1, min(n, 1)
			if c.Collection {
				definition = 2
			}
			p.values = append(p.values, v.Level(repetition, definition, i))
			p.bytes += len(literal) + 8
		}
	}
	p.rows = append(p.rows, parquet.Row(slices.Clip(p.values[from:])))
	p.group++
	if len(p.rows) < batchRows && p.bytes < groupBytes {
		return nil
	}
	if err := p.flush(); err != nil {
		return err
	}
	if p.group < groupRows && p.bytes < groupBytes {
		return nil
	}
	p.group, p.bytes = 0, 0
	return p.w.Flush()
}

func (p *parquetFile) flush() error {
	_, err := p.w.WriteRows(p.rows)
	clear(p.values)
	p.rows, p.values = p.rows[:0], p.values[:0]
	return err
}

func (p *parquetFile) Close() error {
	if err := p.flush(); err != nil {
		return err
	}
	return p.w.Close()
}
