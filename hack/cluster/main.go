// Command cluster is a Kubernetes cluster of one node on this machine, for tests: unmodified etcd, API server, controller
// manager, scheduler, kubelet, kube-proxy, CoreDNS, containerd and runc. It needs root.
//
//	cluster up   -dir DIR -kubernetes DIR -coredns FILE [-attached] [IMAGE.tar]...
//	cluster load -dir DIR IMAGE.tar...
//	cluster exec -dir DIR COMMAND...
//	cluster kill -dir DIR COMPONENT      such as kube-apiserver: it stays away until
//	cluster revive -dir DIR COMPONENT
//	cluster down -dir DIR
//
// The node is a tree of processes in mount, network, PID, IPC and host name namespaces of its own, and its first process
// is the first of the PID namespace. So there is one way in which it ends, whoever ends it and whatever went wrong: the
// first process goes, and the kernel takes the other processes, the mounts, the interfaces and the firewall rules with
// it. What is left are files in DIR and empty cgroups, which down and the next up remove.
//
// It has no way out to any network. Two nodes with two directories have nothing in common.
//
// With -attached the node ends when standard input does: a test that is killed leaves no cluster.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

type options struct {
	dir        string
	kubernetes string
	coredns    string
	attached   bool
	args       []string
}

var commands = map[string]func(options) error{
	"up":   up,
	"load": load,
	"exec": execute,
	"kill": kill, "revive": revive,
	"down": down,
	// The first process of the node, and its only child. They are started by up.
	"init": initialise,
	"node": node,
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 || commands[args[0]] == nil {
		return errors.New("say what to do: up, load, exec, kill, revive or down")
	}
	var o options
	flags := flag.NewFlagSet("cluster "+args[0], flag.ExitOnError)
	flags.StringVar(&o.dir, "dir", os.Getenv("CLUSTER_DIR"), "directory of the node, default $CLUSTER_DIR")
	flags.StringVar(&o.kubernetes, "kubernetes", "", "directory with the binaries of Kubernetes")
	flags.StringVar(&o.coredns, "coredns", "", "CoreDNS")
	flags.BoolVar(&o.attached, "attached", false, "end the node when standard input ends")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	o.args = flags.Args()
	if o.dir == "" {
		return errors.New("give the directory of the node: -dir DIR")
	}
	if os.Geteuid() != 0 {
		return errors.New("a node needs root: it mounts, and makes namespaces and cgroups")
	}
	var err error
	for _, path := range []*string{&o.dir, &o.kubernetes, &o.coredns} {
		if *path == "" {
			continue
		}
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	return commands[args[0]](o)
}
