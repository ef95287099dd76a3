package xds

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// inFleet is a lab of several Envoys of a node, each behind an agent.
func inFleet(t *testing.T, f func(l *lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := newLabWith(t, Options{Reports: true, Identify: func(_ context.Context, n *corev3.Node) (node, envoy string, err error) {
			envoy, ok := strings.CutPrefix(n.GetId(), nodeID+"/")
			if !ok {
				return "", "", errors.New("no certificate")
			}
			return nodeID, envoy, nil
		}})
		defer l.stop()
		f(l)
	})
}

func member(t *testing.T, l *lab, name string) *fakeEnvoy {
	e := newEnvoy(t)
	e.id = nodeID + "/" + name
	e.connect(l)
	return e
}

func (e *fakeEnvoy) report(failing string, ahead time.Duration) {
	meta, err := structpb.NewStruct(map[string]any{ReportFailing: failing, ReportTime: time.Now().Add(ahead).Format(time.RFC3339Nano), ReportReady: true, ReportEpoch: "e1"})
	if err != nil {
		e.t.Fatal(err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	_ = e.stream.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: ReportType, Node: &corev3.Node{Id: e.id, Metadata: meta}})
}

func TestWhatEnvoysOfANodeHaveIsWhatAllOfThemHave(t *testing.T) {
	inFleet(t, func(l *lab) {
		l.server.Set(nodeID, snap(res(snapshot.Cluster, "a", "1")))
		a, b := member(t, l, "a"), member(t, l, "b")
		defer a.end()
		defer func() { b.end() }()
		d := l.server.Delivery(nodeID)
		equalLog(t, a.takeLog())
		if d.Connected() {
			t.Error("connected, and no agent has reported")
		}
		a.report("", 0)
		equalLog(t, a.takeLog(), "+Cluster a")
		equalLog(t, b.takeLog())
		if !d.Connected() || d.Acked(cA) != a.holds(cA) {
			t.Error("one reported and has it")
		}
		b.mu.Lock()
		b.hold[snapshot.Cluster] = true
		b.mu.Unlock()
		b.report("", 0)
		equalLog(t, b.takeLog(), "+Cluster a")
		if d.Acked(cA) != "" {
			t.Error("acknowledged, and one of two has not answered")
		}
		b.disconnect()
		if d.Acked(cA) == "" || len(l.server.Envoys(nodeID)) != 1 {
			t.Error("the one that is left has it")
		}
		b = member(t, l, "b")
		b.bad = func(snapshot.Key, string) string { return "not me" }
		b.report("", 0)
		l.server.Set(nodeID, snap(res(snapshot.Cluster, "a", "2")))
		synctest.Wait()
		if _, message := d.Rejected(cA); message == "" {
			t.Error("one refuses, and nothing says so")
		}
	})
}

func TestAnEnvoyWhoseLogFailsIsGivenNothing(t *testing.T) {
	inFleet(t, func(l *lab) {
		l.server.Set(nodeID, snap(res(snapshot.Cluster, "a", "1")))
		a, b := member(t, l, "a"), member(t, l, "b")
		defer a.end()
		defer b.end()
		a.report("", 0)
		b.report("", 0)
		equalLog(t, a.takeLog(), "+Cluster a")
		equalLog(t, b.takeLog(), "+Cluster a")
		b.report("the disk is full", 0)
		equalLog(t, b.takeLog(), "-Cluster a")
		equalLog(t, a.takeLog())
		d := l.server.Delivery(nodeID)
		if !d.Connected() || d.Acked(cA) == "" {
			t.Error("the other serves")
		}
		if all := l.server.Envoys(nodeID); len(all) != 2 || all[0].Held || !all[1].Held || all[1].Failing != "the disk is full" {
			t.Errorf("%+v", all)
		}
		l.server.ServeUnrecorded(nodeID, true)
		equalLog(t, b.takeLog(), "+Cluster a")
		l.server.ServeUnrecorded(nodeID, false)
		equalLog(t, b.takeLog(), "-Cluster a")
		b.report("", 3*time.Second)
		equalLog(t, b.takeLog(), "+Cluster a")
		if all := l.server.Envoys(nodeID); all[1].Skew != 3*time.Second {
			t.Errorf("%+v", all[1])
		}
	})
}

func TestAnEnvoyThatIsNotKnownIsSentAway(t *testing.T) {
	inFleet(t, func(l *lab) {
		l.server.Set(nodeID, snap(res(snapshot.Cluster, "a", "1")))
		e := newEnvoy(t)
		e.id = nodeID
		e.connect(l)
		defer e.end()
		equalLog(t, e.takeLog())
		if !e.ended || status.Code(e.err) != codes.PermissionDenied {
			t.Errorf("ended %v with %v", e.ended, e.err)
		}
	})
}
