package agent

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// frame is a message that nobody decodes.
type frame struct{ bytes []byte }

// rawCodec passes frames on. It has the name of the codec that made the bytes.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	f, ok := v.(*frame)
	if !ok {
		return nil, fmt.Errorf("agent: cannot send a %T", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(f.bytes)}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	f, ok := v.(*frame)
	if !ok {
		return fmt.Errorf("agent: cannot receive a %T", v)
	}
	f.bytes = data.Materialize()
	return nil
}

// Fields of a DeltaDiscoveryRequest.
const (
	fieldNode    protowire.Number = 1
	fieldTypeURL protowire.Number = 2
)

var errReport = errors.New("reports are the agent's alone")

// fromEnvoy is a request without what Envoy says of its node.
func fromEnvoy(b []byte) ([]byte, error) {
	out := b
	for at := 0; at < len(out); {
		number, typ, n := protowire.ConsumeField(out[at:])
		if n < 0 {
			return nil, fmt.Errorf("a request of Envoy: %w", protowire.ParseError(n))
		}
		switch {
		case number == fieldNode:
			out = append(append(make([]byte, 0, len(out)-n), out[:at]...), out[at+n:]...)
			continue
		case number == fieldTypeURL && typ == protowire.BytesType:
			_, _, tag := protowire.ConsumeTag(out[at:])
			if value, _ := protowire.ConsumeBytes(out[at+tag:]); string(value) == reportType {
				return nil, errReport
			}
		}
		at += n
	}
	return out, nil
}
