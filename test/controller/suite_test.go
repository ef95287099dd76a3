//go:build apiserver

// Package controller_test runs `breakglass controller` against a real API server,
// with real Envoys behind real agents as processes. There is no kubelet: what a pod
// would run is started here, with the Secrets that the controller has made.
//
// All of it lives in a network namespace of its own, because an emergency route may
// not have a backend on loopback.
package controller_test

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// podIP is an address of the namespace that is not loopback.
const podIP = "10.77.0.1"

// inNamespace is set in the process that has the namespace.
const inNamespace = "BREAKGLASS_TEST_NETNS"

func TestMain(m *testing.M) {
	if os.Getenv(inNamespace) == "" {
		cmd := exec.Command(os.Args[0], os.Args[1:]...) //nolint:gosec // this very test
		cmd.Env = append(os.Environ(), inNamespace+"=1")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
		err := cmd.Run()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			os.Exit(exit.ExitCode())
		}
		if err != nil {
			panic("these tests make a network namespace, and need root for it: " + err.Error())
		}
		os.Exit(0)
	}
	for _, args := range [][]string{{"link", "set", "lo", "up"}, {"addr", "add", podIP + "/32", "dev", "lo"}} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			panic("ip (Debian: iproute2): " + err.Error() + ": " + string(out))
		}
	}
	os.Exit(m.Run())
}

func TestController(t *testing.T) {
	RegisterFailHandler(Fail)
	SetDefaultEventuallyTimeout(30e9)
	SetDefaultEventuallyPollingInterval(5e6)
	RunSpecs(t, "controller")
}

var _ = AfterSuite(func() { Expect(testbed.RemoveBinary()).To(Succeed()) })
