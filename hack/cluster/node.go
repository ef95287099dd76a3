package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a step of the start may take on a machine that is busy.
const patience = 3 * time.Minute

// saidFD is where the node says that it is up.
const saidFD = 3

// component is a process of the node.
type component struct {
	name string
	path string
	args []string
	// again has it started anew when it ends by itself, as on any node. The scheduler counts on that: it ends when it
	// cannot make sense of what it sees after an outage of the API server.
	again bool
}

// leastLife of a component that is started anew: one that ends sooner has no chance.
const leastLife = 5 * time.Second

// node starts the components and stays until one of them ends for good, which none should.
func node(o options) error {
	unix.CloseOnExec(saidFD)
	n := &nodeProcess{options: o, ended: make(chan error)}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	up := make(chan error, 1)
	go func() { up <- n.start(ctx) }()
	for {
		select {
		case err := <-n.ended:
			return err
		case err := <-up:
			if err != nil {
				return err
			}
			say := os.NewFile(saidFD, "ready")
			if _, err := say.WriteString(ready); err != nil {
				return fmt.Errorf("say that the node is up: %w", err)
			}
			say.Close()
		}
	}
}

type nodeProcess struct {
	options
	ended chan error
}

func (n *nodeProcess) start(ctx context.Context) error {
	if err := makePKI(n.path("pki")); err != nil {
		return err
	}
	if err := writeFiles(n.dir); err != nil {
		return err
	}
	if err := errors.Join(os.Mkdir(n.path("bin"), 0o755),
		os.Symlink(filepath.Join(n.kubernetes, "kubectl"), n.path("bin/kubectl")),
		os.Symlink("pki/admin.kubeconfig", n.path("kubeconfig"))); err != nil {
		return err
	}
	containerd := make(chan error, 1)
	go func() { containerd <- n.startContainerd(ctx) }()
	if err := n.run(n.etcd(), n.apiServer()); err != nil {
		return err
	}
	if err := n.until(ctx, "the API server is ready", "get", "--raw=/readyz"); err != nil {
		return err
	}
	if err := n.run(n.controllerManager(), n.scheduler(), n.proxy()); err != nil {
		return err
	}
	if err := <-containerd; err != nil {
		return err
	}
	// The kubelet comes after the images, so that no pod waits for a pull that cannot be.
	if err := n.run(n.kubelet()); err != nil {
		return err
	}
	if out, err := n.kubectl(ctx, "create", "--filename", n.path("objects.yaml")); err != nil {
		return fmt.Errorf("create the first objects: %w: %s", err, out)
	}
	if err := n.run(n.dns()); err != nil {
		return err
	}
	cloud, err := newCloud(n.path("kubeconfig"), n.path("volumes"))
	if err != nil {
		return err
	}
	go cloud.run(context.Background())
	if err := n.until(ctx, "the default service account is there", "get", "serviceaccount/default"); err != nil {
		return err
	}
	return n.until(ctx, "the node is ready", "wait", "--for=condition=Ready", "--timeout=30s", "node/"+nodeName)
}

func (n *nodeProcess) path(name string) string { return filepath.Join(n.dir, name) }

func (n *nodeProcess) startContainerd(ctx context.Context) error {
	if err := n.run(component{name: "containerd", path: "containerd", args: []string{"--config", n.path("containerd.toml")}}); err != nil {
		return err
	}
	answers := func() error {
		conn, err := net.Dial("unix", containerdSocket)
		if err == nil {
			conn.Close()
		}
		return err
	}
	if err := poll(ctx, "containerd answers", answers); err != nil {
		return err
	}
	return importImages(containerdSocket, n.args)
}

// run starts components. The end of one is the end of the node, unless it was killed on purpose or is to be started anew.
func (n *nodeProcess) run(components ...component) error {
	for _, c := range components {
		cmd, err := n.begin(c)
		if err != nil {
			return err
		}
		began := time.Now()
		go func() {
			err := cmd.Wait()
			if n.back(c.name) || c.again && time.Since(began) > leastLife {
				if err = n.run(c); err == nil {
					return
				}
			}
			n.ended <- fmt.Errorf("%s ended (%w); its last lines:\n%s", c.name, err, lastLines(n.log(c.name), 8))
		}()
	}
	return nil
}

func (n *nodeProcess) log(name string) string { return n.path("log/" + name + ".log") }

func (n *nodeProcess) begin(c component) (*exec.Cmd, error) {
	log, err := os.OpenFile(n.log(c.name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(c.path, c.args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	return cmd, nil
}

func (n *nodeProcess) kubectl(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, n.path("bin/kubectl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+n.path("kubeconfig"), "KUBECACHEDIR="+n.path("kubectl"))
	return cmd.CombinedOutput()
}

// until asks kubectl until it is content.
func (n *nodeProcess) until(ctx context.Context, what string, args ...string) error {
	return poll(ctx, what, func() error {
		out, err := n.kubectl(ctx, args...)
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

func poll(ctx context.Context, what string, done func() error) error {
	var last error
	for ctx.Err() == nil {
		err := done()
		if err == nil {
			return nil
		}
		if ctx.Err() == nil { // else it was cut off, and says less than what was before
			last = err
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("waited %v, and still not: %s: %w", patience, what, last)
}
