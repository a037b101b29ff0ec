package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"time"
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

// release is the version as the CapabilityStatement states it, and the moment of its commit.
func release() (number string, at time.Time) {
	number = "devel"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return number, at
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		number = v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			at, _ = time.Parse(time.RFC3339, s.Value) // zero where it is not known
		}
	}
	return number, at
}
