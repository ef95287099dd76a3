package source

import (
	"bytes"
	"path/filepath"

	yamlv3 "go.yaml.in/yaml/v3"
)

// Lines finds the lines of fields of objects that are in use, by reading their
// files again. A file that is gone or has changed since costs precision, no more.
type Lines struct {
	// Dir is what the files' names are relative to. Empty: the working directory.
	Dir   string
	files map[string][]*yamlv3.Node
}

// Of is the line of the field at path, such as spec.rules[0].matches[1], of the
// object at o; the object's own line if the field is not found.
func (l *Lines) Of(o Origin, path string) int {
	if o.File == "" || o.Line == 0 || path == "" {
		return o.Line
	}
	for _, node := range l.docs(o.File) {
		if found := nodeAt(node, o.Line, 0); found != nil {
			if n := line(found, path); n > 0 {
				return n
			}
		}
	}
	return o.Line
}

func (l *Lines) docs(file string) []*yamlv3.Node {
	if docs, known := l.files[file]; known {
		return docs
	}
	if l.files == nil {
		l.files = map[string][]*yamlv3.Node{}
	}
	l.files[file] = nil
	path := file
	if l.Dir != "" && !filepath.IsAbs(file) {
		path = filepath.Join(l.Dir, file)
	}
	data, _, err := readFile(path, 0, true)
	if err != nil {
		return nil
	}
	dec := yamlv3.NewDecoder(bytes.NewReader(data))
	for {
		var doc yamlv3.Node
		if dec.Decode(&doc) != nil {
			return l.files[file]
		}
		l.files[file] = append(l.files[file], doc.Content...)
	}
}

// nodeAt finds the object that begins at a line: the document itself, or an item
// of a List.
func nodeAt(node *yamlv3.Node, at, depth int) *yamlv3.Node {
	if node == nil || node.Kind != yamlv3.MappingNode || depth > 4 {
		return nil
	}
	// An object's line is that of its first text, comments above it not counted.
	if node.Line == at {
		return node
	}
	for i := 0; ; i++ {
		item := below(node, "items", i)
		if item == nil {
			break
		}
		if found := nodeAt(item, at, depth+1); found != nil {
			return found
		}
	}
	return nil
}
