package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

const (
	maxData = 1 << 20
	maxLine = maxData + 1<<10

	timeLayout = "2006-01-02T15:04:05.000000Z"
	sumKey     = `,"sum":"`
	lineEnd    = `"}`
)

// chain is the running SHA-256 over the control lines. It is also the digest
// of one line: a sum is always checked against the one before.
type chain [sha256.Size]byte

func (c chain) next(body []byte) chain {
	h := sha256.New()
	h.Write(c[:])
	h.Write(body)
	var out chain
	h.Sum(out[:0])
	return out
}

// normal checks an entry and brings it into the form in which it is written,
// so that encoding it later cannot fail.
func normal(e Entry) (Entry, error) {
	if !validKind(e.Kind) {
		return e, fmt.Errorf("entry kind %q: must be 1 to 32 of a-z", e.Kind)
	}
	e.Time = e.Time.UTC().Truncate(time.Microsecond)
	if y := e.Time.Year(); y < 1 || y > 9999 {
		return e, fmt.Errorf("entry time %v: year out of range", e.Time)
	}
	if e.Data == nil {
		e.Data = json.RawMessage("null")
	}
	var buf bytes.Buffer
	// Compact takes invalid UTF-8 within strings as it is; other readers do not.
	if err := json.Compact(&buf, bytes.ToValidUTF8(e.Data, []byte("\uFFFD"))); err != nil {
		return e, fmt.Errorf("entry data of kind %q is not JSON: %w", e.Kind, err)
	}
	if buf.Len() > maxData {
		return e, fmt.Errorf("entry data of kind %q has %d bytes, at most %d are kept", e.Kind, buf.Len(), maxData)
	}
	e.Data = buf.Bytes()
	return e, nil
}

func validKind(k string) bool {
	if k == "" || len(k) > 32 {
		return false
	}
	for i := range len(k) {
		if k[i] < 'a' || k[i] > 'z' {
			return false
		}
	}
	return true
}

// appendBody appends the summed part of a line. e is normal.
func appendBody(dst []byte, e Entry, more int) []byte {
	dst = append(dst, `{"seq":`...)
	dst = strconv.AppendUint(dst, e.Seq, 10)
	dst = append(dst, `,"time":"`...)
	dst = e.Time.AppendFormat(dst, timeLayout)
	dst = append(dst, `","kind":"`...)
	dst = append(dst, e.Kind...)
	dst = append(dst, `","data":`...)
	dst = append(dst, e.Data...)
	if more > 0 {
		dst = append(dst, `,"more":`...)
		dst = strconv.AppendInt(dst, int64(more), 10)
	}
	return dst
}

func appendSum(dst, sum []byte) []byte {
	dst = append(dst, sumKey...)
	dst = append(dst, sum...)
	return append(dst, lineEnd+"\n"...)
}

// appendControl appends a control line and returns the chain after it.
func appendControl(dst []byte, e Entry, more int, prev chain) ([]byte, chain) {
	start := len(dst)
	dst = appendBody(dst, e, more)
	sum := prev.next(dst[start:])
	return appendSum(dst, hex.AppendEncode(nil, sum[:])), sum
}

var (
	errForm = errors.New("not a journal line")
	errSum  = errors.New("the checksum does not match")
)

// splitLine takes a line without its newline apart, by form only.
func splitLine(line []byte) (body, sum []byte, err error) {
	n := len(line) - len(sumKey) - 2*sha256.Size - len(lineEnd)
	if n <= 0 || string(line[n:n+len(sumKey)]) != sumKey || string(line[len(line)-len(lineEnd):]) != lineEnd {
		return nil, nil, errForm
	}
	return line[:n], line[n+len(sumKey) : len(line)-len(lineEnd)], nil
}

// parseControl checks a control line against the chain before it.
func parseControl(line []byte, prev chain) (e Entry, more int, sum chain, err error) {
	body, got, err := splitLine(line)
	if err != nil {
		return e, 0, sum, err
	}
	sum = prev.next(body)
	if hex.EncodeToString(sum[:]) != string(got) {
		return e, 0, sum, errSum
	}
	e, more, err = parseBody(body)
	e.Sum = string(got)
	return e, more, sum, err
}

// parseBody reads the summed part of a line. It takes only what appendBody
// makes, byte for byte: one entry has one line.
func parseBody(body []byte) (Entry, int, error) {
	var l struct {
		Seq  uint64          `json:"seq"`
		Time string          `json:"time"`
		Kind string          `json:"kind"`
		Data json.RawMessage `json:"data"`
		More int             `json:"more"`
	}
	if err := json.Unmarshal(append(bytes.Clone(body), '}'), &l); err != nil {
		return Entry{}, 0, fmt.Errorf("%w: %w", errForm, err)
	}
	t, err := time.Parse(timeLayout, l.Time)
	if err != nil {
		return Entry{}, 0, fmt.Errorf("%w: %w", errForm, err)
	}
	e, err := normal(Entry{Seq: l.Seq, Time: t, Kind: l.Kind, Data: l.Data})
	if err != nil {
		return Entry{}, 0, fmt.Errorf("%w: %w", errForm, err)
	}
	if l.More < 0 || !bytes.Equal(appendBody(nil, e, l.More), body) {
		return Entry{}, 0, fmt.Errorf("%w: not in the form it is written in", errForm)
	}
	return e, l.More, nil
}
