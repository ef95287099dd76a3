//go:build cluster

// Package cluster tests the gateway in a Kubernetes cluster: see test/node.
package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/test/node"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

func TestCluster(t *testing.T) {
	RegisterFailHandler(Fail)
	SetDefaultEventuallyTimeout(time.Minute)
	SetDefaultEventuallyPollingInterval(100 * time.Millisecond)
	RunSpecs(t, "cluster")
}

// shared is the node of the run. Specs have namespaces of their own.
var shared *node.Node

var _ = BeforeSuite(func(ctx context.Context) {
	before := time.Now()
	var err error
	shared, err = node.Start(ctx)
	Expect(err).NotTo(HaveOccurred())
	AddReportEntry("the cluster came up in", time.Since(before).Round(10*time.Millisecond).String())
})

var _ = AfterSuite(func() {
	if shared == nil {
		return
	}
	config, err := os.ReadFile(filepath.Join(shared.Dir, "kubelet.yaml"))
	Expect(err).NotTo(HaveOccurred())
	cgroup := regexp.MustCompile(`cgroupRoot: /(\S+)`).FindSubmatch(config)
	Expect(cgroup).To(HaveLen(2), "the cgroup of the pods, in kubelet.yaml")
	Expect(left(shared.Dir, string(cgroup[1]))).To(ContainElements(shared.Dir, HavePrefix("/proc/"), HavePrefix("/sys/fs/cgroup/")),
		"what a cluster has: who does not find that finds nothing afterwards either")

	before := time.Now()
	Expect(shared.Stop()).To(Succeed())
	AddReportEntry("the cluster came down in", time.Since(before).Round(10*time.Millisecond).String())
	Expect(left(shared.Dir, string(cgroup[1]))).To(BeEmpty(), "what the cluster left")
})

var _ = ReportAfterSuite("figures", func(r Report) {
	fmt.Fprint(os.Stdout, "\n", testbed.Figures(r))
})

// left is what there is of a node outside of its namespaces: files, mounts, processes that have its directory on their
// command line, and cgroups.
func left(dir, cgroup string) []string {
	GinkgoHelper()
	var found []string
	if _, err := os.Stat(dir); err == nil {
		found = append(found, dir)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	Expect(err).NotTo(HaveOccurred())
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, dir) {
			found = append(found, line)
		}
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	Expect(err).NotTo(HaveOccurred())
	for _, file := range processes {
		line, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(line), dir) { // else it has gone in the meantime
			found = append(found, file+": "+strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	for _, pattern := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		cgroups, err := filepath.Glob(filepath.Join(pattern, cgroup))
		Expect(err).NotTo(HaveOccurred())
		found = append(found, cgroups...)
	}
	return found
}
