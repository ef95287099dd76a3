// Package node is a Kubernetes cluster of one node for a test run, with the things that tests do with it: kubectl, helm,
// and clients on the node. See hack/cluster for what runs there.
//
// One cluster serves a whole run: specs have namespaces of their own. It ends with Stop, and also if the process of the
// test ends in whatever way.
package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Node is a running node.
type Node struct {
	// Dir has its files: log/*.log among them.
	Dir string
	// alive is closed with this process, which ends the node.
	alive *os.File
}

// What `make test-cluster` builds, and tells the tests.
var tools = map[string]string{}

func tool(variable string) (string, error) {
	path := os.Getenv(variable)
	if path == "" {
		return "", fmt.Errorf("%s is not set: run `make test-cluster`", variable)
	}
	return path, nil
}

// Start starts a node with the images, archives as hack/image writes them, of the directory BREAKGLASS_IMAGES.
func Start(ctx context.Context) (*Node, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("a cluster needs root, for namespaces, mounts and cgroups: run `make test-cluster` as root")
	}
	for _, variable := range []string{"BREAKGLASS_CLUSTER", "BREAKGLASS_KUBERNETES", "BREAKGLASS_COREDNS", "BREAKGLASS_HELM", "BREAKGLASS_IMAGES"} {
		path, err := tool(variable)
		if err != nil {
			return nil, err
		}
		tools[variable] = path
	}
	images, err := filepath.Glob(filepath.Join(tools["BREAKGLASS_IMAGES"], "*.tar"))
	if err != nil {
		return nil, err
	}
	if err := sweep(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", prefix)
	if err != nil {
		return nil, err
	}
	ends, alive, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer ends.Close()
	n := &Node{Dir: dir, alive: alive}
	cmd := exec.CommandContext(ctx, tools["BREAKGLASS_CLUSTER"], append([]string{"up", "-attached", "-dir", dir,
		"-kubernetes", tools["BREAKGLASS_KUBERNETES"], "-coredns", tools["BREAKGLASS_COREDNS"]}, images...)...)
	cmd.Stdin = ends
	if _, err := output(cmd); err != nil {
		return nil, errors.Join(err, n.Stop())
	}
	return n, nil
}

const prefix = "breakglass-node-"

// sweep removes what nodes of tests that were killed left: files, and cgroups without a process. Those that run hold a
// lock.
func sweep() error {
	locks, err := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*", "lock"))
	if err != nil {
		return err
	}
	for _, path := range locks {
		file, err := os.Open(path)
		if err != nil {
			continue // somebody else was here
		}
		err = unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB)
		file.Close()
		if err != nil {
			continue
		}
		if _, err := output(exec.Command(tools["BREAKGLASS_CLUSTER"], "down", "-dir", filepath.Dir(path))); err != nil {
			return err
		}
	}
	return nil
}

// Stop ends the node and removes what it had.
func (n *Node) Stop() error {
	_, err := output(exec.Command(tools["BREAKGLASS_CLUSTER"], "down", "-dir", n.Dir))
	return errors.Join(err, n.alive.Close())
}

// Command is one to run in the network namespace of the node, with KUBECONFIG set and kubectl in its PATH.
func (n *Node) Command(ctx context.Context, command ...string) *exec.Cmd {
	return exec.CommandContext(ctx, tools["BREAKGLASS_CLUSTER"], append([]string{"exec", "-dir", n.Dir, "--"}, command...)...)
}

// Kubectl returns what kubectl says.
func (n *Node) Kubectl(ctx context.Context, args ...string) (string, error) {
	return output(n.Command(ctx, append([]string{"kubectl"}, args...)...))
}

// Apply applies manifests. Objects that do not say where they belong get into the namespace; with "" they may belong to
// several.
func (n *Node) Apply(ctx context.Context, namespace, manifests string) error {
	args := []string{"kubectl", "apply", "--filename=-"}
	if namespace != "" {
		args = append(args, "--namespace="+namespace)
	}
	cmd := n.Command(ctx, args...)
	cmd.Stdin = strings.NewReader(manifests)
	_, err := output(cmd)
	return err
}

// Helm returns what helm says. What helm keeps of its own is with the files of the node.
func (n *Node) Helm(ctx context.Context, args ...string) (string, error) {
	cmd := n.Command(ctx, append([]string{tools["BREAKGLASS_HELM"]}, args...)...)
	cmd.Env = os.Environ()
	for _, kind := range []string{"CACHE", "CONFIG", "DATA"} {
		cmd.Env = append(cmd.Env, "HELM_"+kind+"_HOME="+filepath.Join(n.Dir, "helm", strings.ToLower(kind)))
	}
	return output(cmd)
}

// Load gives more images to the node.
func (n *Node) Load(ctx context.Context, archives ...string) error {
	_, err := output(exec.CommandContext(ctx, tools["BREAKGLASS_CLUSTER"], append([]string{"load", "-dir", n.Dir}, archives...)...))
	return err
}

// output is what a command printed. An error has what it complained of.
func output(cmd *exec.Cmd) (string, error) {
	var out, complaint strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(complaint.String()))
	}
	return out.String(), nil
}

// Config is that of an API client with all rights.
func (n *Node) Config() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(n.Dir, "kubeconfig"))
	if err != nil {
		return nil, err
	}
	config.Dial = n.Dial
	return config, nil
}

// HTTP is a client on the node. Each request has a connection of its own, so that each is one to the load balancer.
func (n *Node) HTTP() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: n.Dial, DisableKeepAlives: true}}
}

// Dial connects from the node. The address is one of IP: names are for pods.
func (n *Node) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		// A socket is of the namespace of the thread that makes it. The thread ends with this goroutine, since it
		// stays locked: no other one gets it.
		runtime.LockOSThread()
		if err := n.enter(); err != nil {
			done <- result{err: err}
			return
		}
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}

// enter has the current thread enter the network namespace of the node.
func (n *Node) enter() error {
	pid, err := os.ReadFile(filepath.Join(n.Dir, "lock"))
	if err != nil {
		return err
	}
	namespace, err := os.Open(filepath.Join("/proc", strings.TrimSpace(string(pid)), "ns/net"))
	if err != nil {
		return fmt.Errorf("the node does not run: %w", err)
	}
	defer namespace.Close()
	if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the network namespace of the node: %w", err)
	}
	return nil
}
