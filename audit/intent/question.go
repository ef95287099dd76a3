package intent

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
)

// EpochMetadata is the gRPC metadata that carries Envoy's epoch.
const EpochMetadata = "x-breakglass-epoch"

var errIntent = errors.New("not a question of Envoy's for an intent")

// Numbers of fields, in the messages below envoy.service.auth.v3.CheckRequest.
const (
	fieldAttributes protowire.Number = 1 // CheckRequest

	fieldSource        protowire.Number = 1 // AttributeContext
	fieldRequest       protowire.Number = 4
	fieldMetadata      protowire.Number = 11
	fieldRouteMetadata protowire.Number = 13

	fieldTime protowire.Number = 1 // AttributeContext.Request
	fieldHTTP protowire.Number = 2

	fieldMethod  protowire.Number = 2 // AttributeContext.HttpRequest
	fieldHeaders protowire.Number = 3
	fieldPath    protowire.Number = 4
	fieldHost    protowire.Number = 5
)

const requestID = "x-request-id"

// read a CheckRequest. Strings need not be UTF-8. It is an error when it
// does not say which request it is of and what was open for it: only what has passed
// our locks comes here.
func read(epoch string, message []byte) (audit.RequestEntry, error) {
	row := asked{audit.RequestRow{Type: audit.TypeIntent, Epoch: epoch}}
	err := each(message, func(n protowire.Number, v wire) error {
		if n != fieldAttributes {
			return nil
		}
		return each(v.bytes, func(n protowire.Number, v wire) error {
			switch n {
			case fieldSource:
				return v.at(func(v wire) { row.ClientAddress = socketAddress(v) }, 1, 1)
			case fieldRequest:
				return row.takeRequest(v.bytes)
			case fieldMetadata:
				return ofNamespace(v.bytes, claimsNamespace, func(key string, v wire) error {
					if key == "jwt" {
						return v.fields(row.takeClaim)
					}
					return nil
				})
			case fieldRouteMetadata:
				return ofNamespace(v.bytes, routeNamespace, row.takeRoute)
			}
			return nil
		})
	})
	if err != nil {
		return audit.RequestEntry{}, err
	}
	if row.StreamID == "" || row.Opening == "" || row.Issuer == "" || row.Start.IsZero() {
		return audit.RequestEntry{}, fmt.Errorf("%w: it lacks the id of the request, its time, its opening or who asks", errIntent)
	}
	return row.Entry(), nil
}

// Namespaces of metadata: of jwt_authn, and of what translator/lock gives to a route.
const (
	claimsNamespace = "envoy.filters.http.jwt_authn"
	routeNamespace  = "breakglass.dev"
)

// asked is a request as far as Envoy has told of it.
type asked struct{ audit.RequestRow }

func (row *asked) takeRequest(b []byte) error {
	return each(b, func(n protowire.Number, v wire) error {
		switch n {
		case fieldTime:
			var seconds, nanos int64
			err := each(v.bytes, func(n protowire.Number, v wire) error {
				switch n {
				case 1:
					seconds = int64(v.number)
				case 2:
					nanos = int64(v.number)
				}
				return nil
			})
			row.Start = time.Unix(seconds, nanos)
			return err
		case fieldHTTP:
			return each(v.bytes, row.takeHTTP)
		}
		return nil
	})
}

func (row *asked) takeHTTP(n protowire.Number, v wire) error {
	switch n {
	case fieldMethod:
		row.Method = string(v.bytes)
	case fieldHost:
		row.Host = string(v.bytes)
	case fieldPath:
		row.Path = string(v.bytes)
	case fieldHeaders:
		return v.pair(func(key string, v wire) error {
			if key == requestID {
				row.StreamID = string(v.bytes)
			}
			return nil
		})
	}
	return nil
}

func (row *asked) takeClaim(key string, v wire) error {
	switch key {
	case "iss":
		row.Issuer = v.text()
	case "sub":
		row.Subject = v.text()
	case "jti":
		row.JTI = v.text()
	}
	return nil
}

func (row *asked) takeRoute(key string, v wire) error {
	switch key {
	case "gateway":
		row.Gateway = v.text()
	case "route":
		row.Route = v.text()
	case "rule":
		row.Rule = v.text()
	case "role":
		row.Role = v.text()
	case "opening":
		row.Opening = v.text()
	case "activations":
		row.Activations = v.text()
	case "incidents":
		row.Incident = v.text()
	}
	return nil
}

// socketAddress of an envoy.config.core.v3.SocketAddress.
func socketAddress(v wire) string {
	var host string
	var port uint64
	if each(v.bytes, func(n protowire.Number, v wire) error {
		switch n {
		case 2:
			host = string(v.bytes)
		case 3:
			port = v.number
		}
		return nil
	}) != nil || host == "" {
		return ""
	}
	return net.JoinHostPort(host, strconv.FormatUint(port, 10))
}
