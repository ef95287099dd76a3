// Command breakglass serves and opens emergency routes.
//
// Exit codes: 0 it is done; 1 it failed, was refused, or what was checked is
// wrong; 2 the command line is wrong and nothing was tried.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal asks commands to end in order; a second one ends them.
	context.AfterFunc(ctx, stop)
	return execute(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}
