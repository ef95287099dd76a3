package intent

import (
	"errors"
	"math"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
)

var errWire = errors.New("not the wire format of protobuf")

// wire is the value of a field of a protobuf message as it is on the wire: read
// where it lies, and nothing kept of what nobody asks for.
type wire struct {
	bytes  []byte // of a string, bytes or message
	number uint64 // of the others
}

// each field of a message, in order.
func each(b []byte, take func(protowire.Number, wire) error) error {
	for len(b) > 0 {
		number, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errWire
		}
		b = b[n:]
		var v wire
		switch typ {
		case protowire.BytesType:
			v.bytes, n = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			v.number, n = protowire.ConsumeVarint(b)
		case protowire.Fixed64Type:
			v.number, n = protowire.ConsumeFixed64(b)
		default:
			n = protowire.ConsumeFieldValue(number, typ, b)
		}
		if n < 0 {
			return errWire
		}
		b = b[n:]
		if err := take(number, v); err != nil {
			return err
		}
	}
	return nil
}

// at takes the message that is at a path of field numbers.
func (v wire) at(take func(wire), path ...protowire.Number) error {
	if len(path) == 0 {
		take(v)
		return nil
	}
	return each(v.bytes, func(n protowire.Number, v wire) error {
		if n != path[0] {
			return nil
		}
		return v.at(take, path[1:]...)
	})
}

// pair of a map whose keys are strings.
func (v wire) pair(take func(key string, v wire) error) error {
	var key string
	var value wire
	err := each(v.bytes, func(n protowire.Number, v wire) error {
		switch n {
		case 1:
			key = string(v.bytes)
		case 2:
			value = v
		}
		return nil
	})
	if err != nil {
		return err
	}
	return take(key, value)
}

// Numbers of fields of google.protobuf.Value.
const (
	fieldNumber protowire.Number = 2
	fieldString protowire.Number = 3
	fieldStruct protowire.Number = 5
)

// text of a google.protobuf.Value: of what is neither a string nor a
// number nothing.
func (v wire) text() (s string) {
	_ = each(v.bytes, func(n protowire.Number, v wire) error { // what cannot be read is nothing
		switch n {
		case fieldNumber:
			s = strconv.FormatFloat(math.Float64frombits(v.number), 'f', -1, 64)
		case fieldString:
			s = string(v.bytes)
		}
		return nil
	})
	return s
}

// fields of a google.protobuf.Value that is a Struct.
func (v wire) fields(take func(key string, v wire) error) error {
	return each(v.bytes, func(n protowire.Number, v wire) error {
		if n != fieldStruct {
			return nil
		}
		return structFields(v.bytes, take)
	})
}

// structFields of a google.protobuf.Struct.
func structFields(b []byte, take func(key string, v wire) error) error {
	return each(b, func(n protowire.Number, v wire) error {
		if n != 1 {
			return nil
		}
		return v.pair(take)
	})
}

// ofNamespace takes the fields of one namespace of an envoy.config.core.v3.Metadata.
func ofNamespace(b []byte, namespace string, take func(key string, v wire) error) error {
	return each(b, func(n protowire.Number, v wire) error {
		if n != 1 {
			return nil
		}
		return v.pair(func(key string, v wire) error {
			if key != namespace {
				return nil
			}
			return structFields(v.bytes, take)
		})
	})
}
