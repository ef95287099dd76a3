// Package receivers brings audit logs to receivers that others made, and kills what
// can be killed on the way.
package receivers

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"testing"

	"github.com/breakglass-gateway/breakglass-gateway/audit/sink"
)

// asSinks is set in processes that have nothing to do but to run sinks, until they
// are killed.
const asSinks = "BREAKGLASS_TEST_SINKS"

type sinksArgs struct {
	Dir, StateDir string
	Config        sink.Config
}

func TestMain(m *testing.M) {
	args := os.Getenv(asSinks)
	if args == "" {
		os.Exit(m.Run())
	}
	var a sinksArgs
	err := json.Unmarshal([]byte(args), &a)
	if err == nil {
		_, err = sink.Start(context.Background(), sink.Options{
			Dir: a.Dir, StateDir: a.StateDir, Config: a.Config, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	select {}
}
