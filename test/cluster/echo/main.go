// Command echo is the backend of the tests in a cluster: package internal/echo on port 8080, or $PORT, with the pod's
// name as its own. If $WRITE names a file it writes one first, and fails if it cannot.
//
//	echo get URL     is a client instead, for `kubectl exec`, and prints what is answered
package main

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/internal/echo"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == "get" {
		if err := get(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "echo:", err)
			os.Exit(1)
		}
		return
	}
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

func get(url string) error {
	client := &http.Client{Timeout: 10 * time.Second}
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(os.Stdout, response.Body)
	return err
}
