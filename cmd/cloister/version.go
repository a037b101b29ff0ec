package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
)

// versionCmd says what was built.
type versionCmd struct{}

// Run prints one line.
func (versionCmd) Run(out io.Writer) error {
	info, _ := debug.ReadBuildInfo() // nil without module information; version deals with that
	_, err := fmt.Fprintln(out, version(info))
	return err //nolint:wrapcheck // writing to the terminal
}

// version is the module's version with the commit, as the Go tool recorded them.
func version(info *debug.BuildInfo) string {
	text := "cloister (devel)"
	if info != nil {
		if info.Main.Version != "" {
			text = "cloister " + info.Main.Version
		}
		settings := map[string]string{}
		for _, s := range info.Settings {
			settings[s.Key] = s.Value
		}
		if commit := settings["vcs.revision"]; commit != "" {
			text += " commit " + commit[:min(12, len(commit))]
			if settings["vcs.modified"] == "true" {
				text += " (modified)"
			}
		}
	}
	return text + " " + runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH
}
