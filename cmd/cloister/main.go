// Command cloister is a FHIR R4 server for behavioral health, and the tools to run it.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(run(os.Args[1:])) }

// run returns the exit status: 2 for a command that was not understood or a
// configuration that was refused, 1 for a command that failed.
func run(args []string) int {
	if len(args) == 0 {
		args = []string{"--help"}
	}
	var c cli
	command, err := c.parser().Parse(args)
	if err != nil {
		complain(os.Stderr, err)
		return 2
	}
	log := c.log(command.Command())
	// The first signal asks for an orderly end; after it the default is back, so that a second one ends at once.
	ctx, restore := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer restore()
	context.AfterFunc(ctx, restore)
	command.BindTo(ctx, (*context.Context)(nil))
	command.BindTo(os.Stdout, (*io.Writer)(nil))
	command.Bind(log)
	if err := command.Run(); err != nil {
		complain(os.Stderr, err)
		return 1
	}
	return 0
}
