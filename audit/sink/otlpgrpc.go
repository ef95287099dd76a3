package sink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

type otlpGRPC struct {
	conf *OTLP
	ca   string // as it was when conn was made
	conn *grpc.ClientConn
}

func (o *otlpGRPC) deliver(ctx context.Context, records []record) (int, error) {
	if err := o.connect(); err != nil {
		return 0, err
	}
	header, err := headers(o.conf.HeadersFile)
	if err != nil {
		return 0, err
	}
	for name, values := range header {
		for _, v := range values {
			ctx = metadata.AppendToOutgoingContext(ctx, strings.ToLower(name), v)
		}
	}
	resp, err := collogs.NewLogsServiceClient(o.conn).Export(ctx, exportRequest(records))
	if err != nil {
		return 0, o.judge(err)
	}
	return taken(resp, len(records))
}

func (o *otlpGRPC) connect() error {
	ca, err := readSmall(o.conf.CAFile)
	if err != nil {
		return fmt.Errorf("read caFile: %w", err)
	}
	if o.conn != nil && ca == o.ca {
		return nil
	}
	u, err := url.Parse(o.conf.Endpoint)
	if err != nil {
		return errors.New("otlp.endpoint: the URL cannot be parsed")
	}
	target, creds := u.Host, insecure.NewCredentials()
	if u.Scheme == "https" {
		conf, err := tlsConfig(ca)
		if err != nil {
			return fmt.Errorf("caFile %s: %w", o.conf.CAFile, err)
		}
		creds = credentials.NewTLS(conf)
	}
	if u.Port() == "" {
		target = net.JoinHostPort(u.Hostname(), map[string]string{"https": "443", "http": "80"}[u.Scheme])
	}
	if err := o.close(); err != nil {
		return err
	}
	if o.conn, err = grpc.NewClient("dns:///"+target, grpc.WithTransportCredentials(creds), grpc.WithUserAgent("breakglass")); err != nil {
		return fmt.Errorf("connect to %s: %w", target, err)
	}
	o.ca = ca
	return nil
}

// judge says whether coming again can help (OTLP, "Failures", for gRPC).
func (o *otlpGRPC) judge(err error) error {
	s := status.Convert(err)
	out := fmt.Errorf("export to %s: %s: %s", o.conn.CanonicalTarget(), s.Code(), words(s.Message()))
	switch s.Code() {
	case codes.InvalidArgument, codes.OutOfRange, codes.FailedPrecondition:
		return &refusedError{out}
	case codes.ResourceExhausted:
		// A message that is too long, or, with an invitation to come again, a receiver
		// that has too much to do.
		for _, d := range s.Details() {
			if r, ok := d.(*errdetails.RetryInfo); ok {
				return &laterError{out, r.GetRetryDelay().AsDuration()}
			}
		}
		return &refusedError{out}
	}
	for _, d := range s.Details() {
		if r, ok := d.(*errdetails.RetryInfo); ok {
			return &laterError{out, r.GetRetryDelay().AsDuration()}
		}
	}
	// gRPC's own pauses between connections grow to two minutes; ours are shorter.
	o.conn.ResetConnectBackoff()
	return out
}

func (o *otlpGRPC) close() error {
	if o.conn == nil {
		return nil
	}
	err := o.conn.Close()
	o.conn = nil
	return err
}
