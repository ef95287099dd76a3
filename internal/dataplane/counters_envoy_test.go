//go:build envoy

package dataplane

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	filev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// logged is a listener that answers 200 and logs the epoch into the spool.
type logged struct {
	resource *discovery.Resource
	url      string
}

func newLogged(t *testing.T, chain string) logged {
	t.Helper()
	pack := func(m proto.Message) *anypb.Any {
		a, err := anypb.New(m)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().(*net.TCPAddr)
	_ = l.Close() // Envoy takes the port
	log := &filev3.FileAccessLog{
		Path: SpoolDir + "/access.jsonl", // relative to Envoy's directory
		AccessLogFormat: &filev3.FileAccessLog_LogFormat{LogFormat: &corev3.SubstitutionFormatString{
			Format: &corev3.SubstitutionFormatString_TextFormatSource{TextFormatSource: &corev3.DataSource{
				Specifier: &corev3.DataSource_InlineString{InlineString: "%ENVIRONMENT(ENVOY_EPOCH)%\n"},
			}},
		}},
	}
	hcm := &hcmv3.HttpConnectionManager{
		StatPrefix: chain,
		AccessLog:  []*accesslogv3.AccessLog{{Name: "file", ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: pack(log)}}},
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{VirtualHosts: []*routev3.VirtualHost{{
			Name: "all", Domains: []string{"*"}, Routes: []*routev3.Route{{
				Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
				Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: 200}},
			}},
		}}}},
		HttpFilters: []*hcmv3.HttpFilter{{Name: "router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(&routerv3.Router{})}}},
	}
	listener := &listenerv3.Listener{
		Name: chain,
		Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(addr.Port)},
		}}},
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name: "http", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(hcm)},
		}}}},
	}
	return logged{&discovery.Resource{Name: chain, Version: "1", Resource: pack(listener)}, "http://" + addr.String()}
}

func (l logged) ask(t *testing.T) {
	t.Helper()
	resp, err := http.Get(l.url)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body.Close(); resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}
}

// rows waits until a file of the spool has so many rows of an epoch, and no other.
func rows(t *testing.T, c Config, file, epoch string, n int) {
	t.Helper()
	path := c.file(SpoolDir) + "/" + file
	eventually(t, fmt.Sprintf("%s has %d rows of %s", file, n, epoch), func() bool {
		b, err := os.ReadFile(path)
		return err == nil && string(b) == strings.Repeat(epoch+"\n", n)
	})
}

func counters(t *testing.T, e *Envoy) Counters {
	t.Helper()
	c, err := e.Counters(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func total(c Counters) (n uint64) {
	for _, chain := range c.Chains {
		n += chain.Total
	}
	return n
}

func TestWhatEnvoyCountsIsWhatItLogs(t *testing.T) {
	c := envoyConfig(t)
	plain, tls := newLogged(t, "http-80"), newLogged(t, "https-443-a.b")
	c.XDSSocket += "2"
	serveADS(t, c.XDSSocket, plain.resource, tls.resource)
	var told exits
	c.OnExit = told.add
	e := start(t, c)
	ready(t, e)
	if got := counters(t, e); got.Epoch != e.State().Epoch || total(got) != 0 {
		t.Errorf("before any request: %+v", got)
	}
	plain.ask(t)
	tls.ask(t)
	tls.ask(t)
	first := e.State().Epoch
	rows(t, c, "access.jsonl", first, 3)
	if got := counters(t, e); got.Epoch != first || got.Chains["http-80"] != (Requests{1, 0}) || got.Chains["https-443-a.b"] != (Requests{2, 0}) {
		t.Errorf("after 3 requests: %+v", got)
	}

	// An older file goes on being written until Envoy is told.
	spool := c.file(SpoolDir) + "/access.jsonl"
	if err := os.Rename(spool, spool+".1"); err != nil {
		t.Fatal(err)
	}
	plain.ask(t)
	rows(t, c, "access.jsonl.1", first, 4)
	if err := e.ReopenLogs(context.Background()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a new file", func() bool { _, err := os.Stat(spool); return err == nil })
	plain.ask(t)
	rows(t, c, "access.jsonl", first, 1)

	// Each answer is of the process it names.
	killPID(t, e.State().PID)
	eventually(t, "the successor counts", func() bool {
		got, err := e.Counters(context.Background())
		if err == nil && (got.Epoch == first) != (total(got) == 5) {
			t.Fatalf("counters of two processes: %+v, the first was %s", got, first)
		}
		return err == nil && got.Epoch != first
	})
	told.want(t, first+" false")
	ready(t, e)
	plain.ask(t)
	second := e.State().Epoch
	eventually(t, "the successor's row", func() bool {
		b, err := os.ReadFile(spool)
		return err == nil && string(b) == first+"\n"+second+"\n"
	})
	stop(t, e)
	told.want(t, first+" false", second+" true")
	if _, err := e.Counters(context.Background()); err == nil {
		t.Error("an Envoy that was stopped has counters")
	}
	if s := e.State(); s.Epoch != "" {
		t.Errorf("state after Stop: %+v", s)
	}
	start(t, c)
	for _, name := range []string{"access.jsonl", "access.jsonl.1"} {
		if _, err := os.Stat(c.file(SpoolDir) + "/" + name); err != nil {
			t.Errorf("unread rows are gone: %v", err)
		}
	}
}

func TestEnvoyForgetsWhatAListenerCountedWhenItIsRemoved(t *testing.T) {
	c := envoyConfig(t)
	l := newLogged(t, "http-80")
	c.XDSSocket += "2"
	ads := serveADS(t, c.XDSSocket, l.resource)
	e := start(t, c)
	ready(t, e)
	l.ask(t)
	if got := counters(t, e); total(got) != 1 {
		t.Errorf("%+v", got)
	}
	ads.Stop()
	serveADS(t, c.XDSSocket, &discovery.Resource{Name: "http-80"})
	eventually(t, "the count is lost", func() bool { return total(counters(t, e)) == 0 })
}
