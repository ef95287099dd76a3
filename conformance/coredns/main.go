// Command coredns is the CoreDNS that the suite's base manifests start; no test of the profiles that we claim asks it.
//
// The code is that of the module in go.mod, unmodified; upstream's own main package is this with every plugin, and the
// client libraries of three clouds.
package main

import (
	_ "github.com/coredns/coredns/core/dnsserver" // the server type "dns"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/whoami"
)

func main() { coremain.Run() }
