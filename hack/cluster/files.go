package main

import (
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"text/template"
)

const (
	nodeName     = "node"
	nodeIP       = "10.99.0.1"     // of 10.99.0.0/16
	balancers    = "10.99.1.0/24"  // where load balancers have their addresses
	serviceRange = "10.96.0.0/16"  // ClusterIPs
	apiServiceIP = "10.96.0.1"     // that of Service kubernetes
	dnsServiceIP = "10.96.0.10"    // that of Service kube-dns
	podRange     = "10.244.0.0/24" // pods

	plugins          = "/usr/lib/cni" // where Debian has them
	containerdSocket = "/run/containerd/containerd.sock"
	pauseImage       = "registry.k8s.io/pause:3.10"

	volumes = 32
	nonroot = 65532 // user and group that own the volumes: a hostPath knows no fsGroup
)

//go:embed files
var templates embed.FS

type volume struct{ Name, Path string }

// writeFiles makes the volumes, and every file that a component reads but keys and certificates.
func writeFiles(dir string) error {
	values := struct {
		Dir, Cgroup, Socket, Pause, Plugins, Node, DNS, Pods string
		Volumes                                              []volume
	}{
		Dir: dir, Cgroup: cgroup(dir), Socket: containerdSocket, Pause: pauseImage, Plugins: plugins,
		Node: nodeIP, DNS: dnsServiceIP, Pods: podRange,
	}
	for i := range volumes {
		v := volume{Name: fmt.Sprintf("volume-%02d", i)}
		v.Path = filepath.Join(dir, "volumes", v.Name)
		if err := os.MkdirAll(v.Path, 0o770); err != nil {
			return err
		}
		if err := os.Chown(v.Path, nonroot, nonroot); err != nil {
			return err
		}
		values.Volumes = append(values.Volumes, v)
	}
	parsed, err := template.ParseFS(templates, "files/*")
	if err != nil {
		return err
	}
	for _, t := range parsed.Templates() {
		path := filepath.Join(dir, t.Name())
		if t.Name() == "network.conflist" { // containerd reads every file of a directory
			path = filepath.Join(dir, "cni", t.Name())
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		if err := t.Execute(file, values); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
		if err := file.Close(); err != nil {
			return err
		}
	}
	return nil
}
