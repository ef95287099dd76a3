// Command echo is the backend of the tests in a cluster: package internal/echo on port 8080, or $PORT, with the pod's
// name as its own. If $WRITE names a file it writes one first, and fails if it cannot.
package main

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/breakglass-gateway/breakglass-gateway/internal/echo"
)

func main() {
	if file := os.Getenv("WRITE"); file != "" {
		if err := os.WriteFile(file, []byte("written\n"), 0o600); err != nil {
			fmt.Fprintln(os.Stderr, "echo:", err)
			os.Exit(1)
		}
	}
	name, _ := os.Hostname() // without one it has no name, which harms nobody
	server := &echo.Server{Name: name}
	if err := server.Start(net.JoinHostPort("", cmp.Or(os.Getenv("PORT"), "8080"))); err != nil {
		fmt.Fprintln(os.Stderr, "echo:", err)
		os.Exit(1)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	<-stop
	_ = server.Close() // it goes anyway
}
