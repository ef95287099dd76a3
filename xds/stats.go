package xds

import (
	"strings"
	"sync/atomic"

	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// types are the xDS types served; requests for others are left unanswered.
var types = [...]string{
	snapshot.Listener, snapshot.Cluster, snapshot.Route,
	snapshot.ScopedRoute, snapshot.ExtensionConfig, snapshot.Secret,
}

// Stats counts since New, for metrics.
type Stats struct {
	Streams       int // open now
	StreamsOpened uint64
	Types         map[string]TypeStats // by type URL
}

// TypeStats counts for one xDS type.
type TypeStats struct {
	Acks, Nacks uint64 // responses that Envoy accepted, refused
	Resources   uint64 // resources sent, leases sent again included
	Removed     uint64 // removals sent
}

type counters struct {
	streams atomic.Int64
	opened  atomic.Uint64
	byType  [len(types)]struct{ acks, nacks, resources, removed atomic.Uint64 }
}

// Stats returns the counts as of now.
func (s *Server) Stats() Stats {
	out := Stats{
		Streams:       int(s.stats.streams.Load()),
		StreamsOpened: s.stats.opened.Load(),
		Types:         make(map[string]TypeStats, len(types)),
	}
	for i, typ := range types {
		c := &s.stats.byType[i]
		out.Types[typ] = TypeStats{
			Acks: c.acks.Load(), Nacks: c.nacks.Load(),
			Resources: c.resources.Load(), Removed: c.removed.Load(),
		}
	}
	return out
}

// short is a type as people say it: "Cluster".
func short(typ string) string { return typ[strings.LastIndexByte(typ, '.')+1:] }
