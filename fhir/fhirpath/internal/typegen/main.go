// Command typegen writes the type table of fhir/fhirpath from the validation table of fhir/codec.
//
//	go run ./fhir/fhirpath/internal/typegen fhir/codec/r4.table > fhir/fhirpath/types.txt
//
// What is kept are names and types: one line for each type, with its base and its elements. The output is
// the same for the same input.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: typegen r4.table > types.txt")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "typegen:", err)
		os.Exit(1)
	}
}

func run(path string, out io.Writer) error {
	table, err := os.ReadFile(path) //nolint:gosec // a generator reads the file that it is told to read
	if err != nil {
		return err
	}
	w := bufio.NewWriter(out)
	if err := generate(string(table), w); err != nil {
		return err
	}
	return w.Flush()
}

// profiled are constrained types that the table knows as types of their own; FHIRPath does not.
var profiled = map[string]bool{"SimpleQuantity": true, "MoneyQuantity": true}

func generate(table string, w io.Writer) error {
	var b strings.Builder
	b.WriteString("# Written by fhir/fhirpath/internal/typegen from the table of fhir/codec. Do not edit.")
	in := false
	for line := range strings.Lines(table) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case line == "" || line[0] == '#' || line[0] == '=' || line[0] == '+':
		case line[0] == ':':
			f := strings.Split(line[1:], "\t")
			if len(f) != 3 {
				return fmt.Errorf("type line %q", line)
			}
			if in = !profiled[f[0]]; in {
				fmt.Fprintf(&b, "\n%s\t%s\t%s", f[0], f[1], f[2])
			}
		case in:
			f := strings.Split(line, "\t")
			if len(f) < 3 {
				return fmt.Errorf("element line %q", line)
			}
			var types []string
			for t := range strings.SplitSeq(f[2], "|") {
				t, _, _ = strings.Cut(strings.TrimPrefix(t, "@"), "(")
				if profiled[t] {
					t = "Quantity"
				}
				types = append(types, t)
			}
			// The marks of summary and modifier elements say nothing of types.
			fmt.Fprintf(&b, "\t%s:%s", strings.TrimLeft(f[0], "~!"), strings.Join(types, "|"))
			if strings.HasSuffix(f[1], "..*") {
				b.WriteByte('*')
			}
		}
	}
	b.WriteByte('\n')
	_, err := io.WriteString(w, b.String())
	return err
}
