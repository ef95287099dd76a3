package source

import (
	"bytes"
	"strconv"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
)

// locator finds the line of a field. It parses the text once more, with lines,
// and only when something is wrong with it.
type locator struct {
	text   []byte
	parsed bool
	docs   []*yamlv3.Node
}

// node of the nth object of the text, counted without null documents.
func (l *locator) node(n int) *yamlv3.Node {
	if !l.parsed {
		l.parsed = true
		dec := yamlv3.NewDecoder(bytes.NewReader(l.text))
		for {
			var doc yamlv3.Node
			// The first parser has taken the text. Should this one not, the
			// line of the document has to do.
			if dec.Decode(&doc) != nil {
				break
			}
			if doc.Kind == yamlv3.DocumentNode && len(doc.Content) == 1 && doc.Content[0].Tag != "!!null" {
				l.docs = append(l.docs, doc.Content[0])
			}
		}
	}
	if n < len(l.docs) {
		return l.docs[n]
	}
	return nil
}

// line of the field at path below node, from 1. For a field that is not there
// it is the line of the nearest field above it; 0 without a node.
func line(node *yamlv3.Node, path string) int {
	if node == nil {
		return 0
	}
	at := node.Line
	for range 4 * maxDepth { // an alias may lead back up
		if node.Kind == yamlv3.AliasNode {
			node = node.Alias
			continue
		}
		key, value, rest := child(node, strings.TrimPrefix(path, "."))
		if value == nil {
			return at
		}
		at, node, path = key.Line, value, rest
	}
	return at
}

// child finds the first step of path below node. Keys may hold dots and slashes
// (labels, file names), so that the path is matched against the keys that are
// there instead of being cut first.
func child(node *yamlv3.Node, path string) (key, value *yamlv3.Node, rest string) {
	switch node.Kind {
	case yamlv3.SequenceNode:
		index, rest, _ := strings.Cut(strings.TrimPrefix(path, "["), "]")
		if !strings.HasPrefix(path, "[") {
			index, rest, _ = strings.Cut(path, ".")
		}
		if i, err := strconv.Atoi(index); err == nil && i >= 0 && i < len(node.Content) {
			return node.Content[i], node.Content[i], rest
		}
	case yamlv3.MappingNode:
		longest := -1
		for i := 0; i+1 < len(node.Content); i += 2 {
			k := node.Content[i]
			if r, ok := cutKey(path, k.Value); ok && len(k.Value) > longest {
				longest = len(k.Value)
				key, value, rest = k, node.Content[i+1], r
			}
		}
	}
	return key, value, rest
}

func cutKey(path, key string) (rest string, ok bool) {
	if rest, ok = strings.CutPrefix(path, "["+key+"]"); ok {
		return rest, true
	}
	if rest, ok = strings.CutPrefix(path, key); !ok || key == "" {
		return "", false
	}
	return rest, rest == "" || rest[0] == '.' || rest[0] == '['
}
