package xds

import (
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// maxNodeID bounds a node id, in bytes. Ours are "namespace/name" of a Gateway.
const maxNodeID = 512

type adsStream = discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer

// DeltaAggregatedResources serves one Envoy until its stream ends.
func (s *Server) DeltaAggregatedResources(g adsStream) error {
	first, err := g.Recv()
	if err != nil {
		return err
	}
	if l := len(first.GetNode().GetId()); l == 0 || l > maxNodeID {
		return status.Errorf(codes.InvalidArgument,
			"the first request must name its node: node.id has %d bytes, want 1 to %d", l, maxNodeID)
	}
	id, envoy, err := s.identify(g.Context(), first.GetNode())
	if err != nil {
		s.log.Warn("an Envoy was sent away", "error", err)
		return status.Error(codes.PermissionDenied, err.Error())
	}
	c := &conn{view: newView(), wake: make(chan struct{}, 1), superseded: make(chan struct{})}
	log := s.log.With("node", id)
	if envoy != id {
		log = log.With("envoy", envoy)
	}
	st := newStream(c.view, &s.stats, log, s.ackTimeout)

	s.stats.streams.Add(1)
	s.stats.opened.Add(1)
	defer s.stats.streams.Add(-1)
	s.attach(id, envoy, c)
	log.Info("envoy connected")
	s.onChange(id)

	err = s.run(g, id, c, st, first)

	if s.detach(id, envoy, c) {
		log.Info("envoy disconnected", "cause", err)
		s.onChange(id)
	}
	return err
}

// run is the one goroutine that owns st. Receiving and sending have one each,
// because either may block for as long as Envoy likes.
func (s *Server) run(g adsStream, id string, c *conn, st *stream, req *discovery.DeltaDiscoveryRequest) error {
	reqs, out := make(chan *discovery.DeltaDiscoveryRequest), make(chan *discovery.DeltaDiscoveryResponse, 1)
	sent, failed := make(chan struct{}, 1), make(chan error, 2)
	go receive(g, reqs, failed)
	defer close(out)
	go send(g, out, sent, failed)

	timer := time.NewTimer(0)
	defer timer.Stop()
	free := true // the sender has nothing to do
	for {
		now := s.now()
		// The newest snapshot is looked up in every round, and responses are made
		// only when the sender is free: changes coalesce, and a closing is never
		// behind a queue of our own.
		req = s.withoutReport(id, c, req, now)
		st.set(s.wanted(id, c), now)
		if req != nil {
			if err := st.request(req, now); err != nil {
				return err
			}
			req = nil
		}
		st.tick(now)
		if free {
			// A clock read of its own: what came before may have taken
			// milliseconds, and the time a lease has left counts from here.
			if m := st.next(s.now()); m != nil {
				free = false
				out <- m
			}
		}
		if len(st.inflight) > maxUnanswered {
			return status.Errorf(codes.ResourceExhausted, "%d responses were not answered", len(st.inflight))
		}
		if c.view.takeChanged() {
			s.onChange(id)
		}
		wait := time.Hour
		if at := st.wakeAt(); !at.IsZero() {
			wait = max(at.Sub(now), time.Millisecond)
		}
		timer.Reset(wait)
		select {
		case req = <-reqs:
		case <-sent:
			free = true
		case <-c.wake:
		case <-timer.C:
		case err := <-failed:
			return err
		case <-c.superseded:
			return status.Error(codes.Aborted, "a newer stream of the same Envoy took over")
		}
	}
}

// withoutReport takes in a report; any other request is returned.
func (s *Server) withoutReport(id string, c *conn, req *discovery.DeltaDiscoveryRequest, now time.Time) *discovery.DeltaDiscoveryRequest {
	if req.GetTypeUrl() != ReportType {
		return req
	}
	if s.told(c, reportOf(req, now)) {
		s.onChange(id)
	}
	return nil
}

func receive(g adsStream, reqs chan<- *discovery.DeltaDiscoveryRequest, failed chan<- error) {
	for {
		req, err := g.Recv()
		if err != nil {
			failed <- err
			return
		}
		select {
		case reqs <- req:
		case <-g.Context().Done():
			return
		}
	}
}

func send(g adsStream, out <-chan *discovery.DeltaDiscoveryResponse, sent chan<- struct{}, failed chan<- error) {
	for m := range out {
		if err := g.Send(m); err != nil {
			failed <- err
			return
		}
		sent <- struct{}{}
	}
}
