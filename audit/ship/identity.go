package ship

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// originPrefix begins the origins of all our logs.
const originPrefix = "breakglass.dev/log/"

// Identity is who brings a log.
type Identity struct {
	// Name as it is recorded.
	Name string
	// Gateway is namespace/name if it is an agent of one. It then brings only logs
	// whose origin is breakglass.dev/log/NAMESPACE/NAME/POD, and in them only what is
	// of that Gateway. "": a controller.
	Gateway string
}

// mayBring says whether a log with that origin may come from it.
func (id Identity) mayBring(origin string) error {
	if origin == "" || len(origin) > maxName || strings.ContainsFunc(origin, func(r rune) bool { return r <= ' ' || r == '+' || r == 0x7f || r == 0xfffd }) {
		return fmt.Errorf("%.200q is not the origin of a log", origin)
	}
	rest, ours := strings.CutPrefix(origin, originPrefix)
	if id.Gateway != "" {
		pod, of := strings.CutPrefix(rest, id.Gateway+"/")
		if !ours || !of || pod == "" || strings.Contains(pod, "/") {
			return fmt.Errorf("%s may not bring the log %.300s", id.Name, origin)
		}
		return nil
	}
	// Three parts are of a Gateway's pod.
	if ours && strings.Count(rest, "/") >= 2 {
		return fmt.Errorf("%s may not bring the log %.300s, which is of a Gateway", id.Name, origin)
	}
	return nil
}

// fromGateway are the kinds of entries that an agent's log has.
var fromGateway = []string{
	audit.KindRequest, audit.KindConnection, audit.KindGap, audit.KindLimited, audit.KindProblem, audit.KindClock,
	audit.KindStart, audit.KindStop, "epoch",
}

// fromController are those of a controller's, besides.
var fromController = []string{audit.KindActivation, audit.KindPolicy, audit.KindConfig, audit.KindAlarm, audit.KindSink}

// mayHave says whether an entry of its log may be so.
func (id Identity) mayHave(e *merkle.Entry) error {
	switch {
	case ownKind(e.Kind):
		return nil
	case id.Gateway == "" && (slices.Contains(fromController, e.Kind) || slices.Contains(fromGateway, e.Kind)):
		return nil
	case !slices.Contains(fromGateway, e.Kind):
		return fmt.Errorf("entry %d is of kind %q, which %s may not bring", e.Seq, e.Kind, id.Name)
	}
	gateway, err := gatewayOf(e.Data)
	if err != nil {
		return fmt.Errorf("entry %d: %w", e.Seq, err)
	}
	if gateway != "" && gateway != id.Gateway || gateway == "" && e.Kind == audit.KindRequest {
		return fmt.Errorf("entry %d is of Gateway %.200q, which %s may not bring", e.Seq, gateway, id.Name)
	}
	return nil
}

// gatewayOf the data of an entry, as all who read it will see it: some take the first
// member of a name and some the last, and encoding/json takes "Gateway" for "gateway".
// So there may be one, in this spelling, or none.
func gatewayOf(data []byte) (gateway string, err error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return "", errors.New("its data is no object")
	}
	for seen := false; dec.More(); {
		name, err := dec.Token()
		if err != nil {
			return "", err
		}
		text, _ := name.(string)
		if !strings.EqualFold(text, gatewayField) {
			var skipped json.RawMessage
			if err := dec.Decode(&skipped); err != nil {
				return "", err
			}
			continue
		}
		if seen || text != gatewayField {
			return "", fmt.Errorf("its data says twice, or as %.20q, of which Gateway it is", text)
		}
		seen = true
		if err := dec.Decode(&gateway); err != nil {
			return "", err
		}
	}
	return gateway, nil
}

const gatewayField = "gateway"

// ownKind says whether an entry is about the files of its own log.
func ownKind(kind string) bool {
	return kind == merkle.KindSegment || kind == merkle.KindKey || kind == merkle.KindRetention
}
