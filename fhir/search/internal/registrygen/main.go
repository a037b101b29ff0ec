// Command registrygen writes the search parameter table of package search from
// the official R4 definitions.
//
// It takes the folder of the unpacked definitions (one JSON file each) and
// writes r4.txt and testdata/golden/notcompiled.txt under the working directory.
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: registrygen FOLDER")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "registrygen:", err)
		os.Exit(1)
	}
}

func run(folder string) error {
	out, err := generate(os.DirFS(folder))
	if err != nil {
		return err
	}
	if err := os.MkdirAll("testdata/golden", 0o750); err != nil {
		return err
	}
	if err := os.WriteFile("r4.txt", out.table, 0o644); err != nil { //nolint:gosec // a source file, not a secret
		return err
	}
	return os.WriteFile("testdata/golden/notcompiled.txt", out.refused, 0o644) //nolint:gosec // as above
}
