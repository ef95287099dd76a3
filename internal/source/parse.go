package source

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
)

// document is one YAML document, parsed and checked. It does not know where it
// stands, so that it is good for as long as its text is.
type document struct {
	hash    [sha256.Size]byte
	proven  bool // not validated: it was before
	objects []*candidate
	// problems of what is no object. Their Line counts from the document's
	// first, which is 0.
	problems []Problem
}

// candidate is an object as one document has it.
type candidate struct {
	key  ObjectKey
	kind *kind
	// obj is nil if the object is invalid; problems then says why.
	obj      object
	problems []Problem
	line     int // within the document, from 0
	closes   bool
	// node finds lines in the document's text, for problems that show only when
	// an earlier version is known: of an Activation.
	node func() *yamlv3.Node
}

// placed is a document at its place in a file.
type placed struct {
	*document
	line int // from 1
}

// parse reads the text of a file. Documents whose text is found in known are not
// parsed anew, and those that were proven are not validated anew. An error is about
// the whole file.
func parse(data []byte, known []placed, good *proven) ([]placed, *syntaxError) {
	if i := bytes.IndexByte(data, 0); i >= 0 {
		return nil, &syntaxError{1 + bytes.Count(data[:i], []byte("\n")), "not text: there is a zero byte in it"}
	}
	byHash := make(map[[sha256.Size]byte]*document, len(known))
	for _, p := range known {
		byHash[p.hash] = p.document
	}
	var docs []placed
	for _, c := range split(data) {
		hash := sha256.Sum256(c.text)
		doc := byHash[hash]
		if doc == nil {
			var err *syntaxError
			if doc, err = parseDocument(c.text, good.has(hash)); err != nil {
				return nil, &syntaxError{err.line + c.line - 1, err.message}
			}
			doc.hash = hash
			if !doc.proven && doc.sound() {
				good.add(hash)
			}
			byHash[hash] = doc
		}
		docs = append(docs, placed{doc, c.line})
	}
	return docs, nil
}

// sound reports whether nothing at all is wrong.
func (d *document) sound() bool {
	return len(d.problems) == 0 && !slices.ContainsFunc(d.objects, func(c *candidate) bool { return c.obj == nil || len(c.problems) > 0 })
}

func parseDocument(text []byte, proven bool) (*document, *syntaxError) {
	values, err := decode(text)
	if err != nil {
		var syntax *syntaxError
		if !errors.As(err, &syntax) {
			syntax = &syntaxError{1, err.Error()}
		}
		return nil, syntax
	}
	doc, loc := &document{proven: proven}, &locator{text: text}
	for i, v := range values {
		doc.add(v, func() *yamlv3.Node { return loc.node(i) }, firstLine(text), "", "", 0)
	}
	return doc, nil
}

// add checks one value, which is an object or a list of them. The node is asked
// for only when a line is needed.
func (d *document) add(v any, node func() *yamlv3.Node, at int, itemVersion, itemKind string, depth int) {
	if n := depth; n > 0 {
		if l := line(node(), ""); l > 0 {
			at = l - 1
		}
	}
	u, ok := v.(map[string]any)
	if !ok {
		d.problems = append(d.problems, Problem{Line: at, Message: "not an object", Remedy: "write apiVersion, kind and metadata"})
		return
	}
	if items, version, kind, ok := list(u); ok && depth < 4 {
		for i, item := range items {
			d.add(item, func() *yamlv3.Node { return below(node(), "items", i) }, at, version, kind, depth+1)
		}
		return
	}
	// The items of a typed list need not repeat its kind.
	if u["apiVersion"] == nil && u["kind"] == nil && itemKind != "" {
		u["apiVersion"], u["kind"] = itemVersion, itemKind
	}
	d.addObject(u, node, at)
}

func (d *document) addObject(u map[string]any, node func() *yamlv3.Node, at int) {
	var f findings
	k, version, key := identity(u, &f)
	if k == nil || key.Name == "" {
		object := ""
		if k != nil {
			object = k.name
		}
		d.problems = append(d.problems, f.problems(object, node, at)...)
		return
	}
	c := &candidate{key: key, kind: k, line: at, closes: closes(u, k)}
	c.obj = check(u, k, version, d.proven, &f)
	c.problems = f.problems(key.String(), node, at)
	if k.transitions() {
		c.node = node
	}
	d.objects = append(d.objects, c)
}

// problems turns findings into Problems without a file. Lines count from 0.
func (f *findings) problems(object string, node func() *yamlv3.Node, at int) []Problem {
	if len(f.list) == 0 {
		return nil
	}
	n := node()
	ps := make([]Problem, 0, len(f.list))
	for _, x := range f.list {
		p := Problem{Line: at, Object: object, Field: x.path, Message: x.message, Remedy: x.remedy}
		if l := line(n, x.path); l > 0 && x.path != "" {
			p.Line = l - 1
		}
		ps = append(ps, p)
	}
	return sortProblems(ps)
}

// list returns the items of a List, and what they are if the list is typed.
func list(u map[string]any) (items []any, version, kind string, ok bool) {
	name, _ := u["kind"].(string)
	version, _ = u["apiVersion"].(string)
	kind, ok = strings.CutSuffix(name, "List")
	if !ok || (kind == "") != (version == "v1" && name == "List") {
		return nil, "", "", false
	}
	if kind != "" && kindByName[kind] == nil {
		return nil, "", "", false
	}
	if items, ok = u["items"].([]any); !ok && u["items"] != nil {
		return nil, "", "", false
	}
	return items, version, kind, true
}

// below is the node of an item of a list that is a field of node's object.
func below(node *yamlv3.Node, field string, i int) *yamlv3.Node {
	if node == nil {
		return nil
	}
	if node.Kind == yamlv3.AliasNode {
		node = node.Alias
	}
	for j := 0; node.Kind == yamlv3.MappingNode && j+1 < len(node.Content); j += 2 {
		if items := node.Content[j+1]; node.Content[j].Value == field {
			if items.Kind == yamlv3.AliasNode {
				items = items.Alias
			}
			if items.Kind == yamlv3.SequenceNode && i < len(items.Content) {
				return items.Content[i]
			}
		}
	}
	return nil
}

// noNode is for objects that have no text.
func noNode() *yamlv3.Node { return nil }
