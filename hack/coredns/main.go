// Command coredns is CoreDNS with the few plugins that the cluster for tests needs.
//
// The code is that of the module in go.mod, unmodified; upstream's own main package is this with every plugin, and the
// client libraries of three clouds.
package main

import (
	_ "github.com/coredns/coredns/core/dnsserver" // the server type "dns"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/template"
)

func main() { coremain.Run() }
