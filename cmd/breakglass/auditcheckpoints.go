package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// maxCheckpoints bounds the bytes of one --checkpoint file.
const maxCheckpoints = 256 << 20

// checkpointFile says which checkpoints are from which file, counted from 1 over
// all files, as findings name them.
type checkpointFile struct {
	File  string `json:"file"`
	First int    `json:"first"`
	Last  int    `json:"last"`
}

// checkpointFiles reads signed notes, any number a file.
func checkpointFiles(paths []string) (notes [][]byte, files []checkpointFile, err error) {
	for _, path := range paths {
		more, err := checkpointsIn(path)
		if err != nil {
			return nil, nil, err
		}
		files = append(files, checkpointFile{path, len(notes) + 1, len(notes) + len(more)})
		notes = append(notes, more...)
	}
	return notes, files, nil
}

func checkpointsIn(path string) ([][]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, usagef("--checkpoint: %w", err)
	}
	defer f.Close()
	notes, err := splitNotes(io.LimitReader(f, maxCheckpoints+1))
	if err != nil {
		return nil, usagef("--checkpoint %s: %w", path, err)
	}
	return notes, nil
}

// signature is how a signature's line begins.
var signature = []byte("\u2014 ")

// splitNotes takes notes apart that follow one another: text, an empty line,
// signatures, and empty lines as many as there are.
func splitNotes(r io.Reader) ([][]byte, error) {
	var notes [][]byte
	var note []byte
	signed, read, line := false, 0, 0
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		line++
		if read += len(s.Bytes()) + 1; read > maxCheckpoints {
			return nil, fmt.Errorf("more than %d MiB: give a part of it, the newest and some older ones", maxCheckpoints>>20)
		}
		text := bytes.TrimSuffix(s.Bytes(), []byte("\r"))
		sig := bytes.HasPrefix(text, signature)
		if signed && !sig {
			notes, note, signed = append(notes, note), nil, false
		}
		switch {
		case sig && !bytes.HasSuffix(note, []byte("\n\n")) && !signed:
			return nil, fmt.Errorf("line %d: a signature without a text and an empty line before it: this is no checkpoint as it was written", line)
		case len(text) == 0 && len(note) == 0:
			continue
		}
		signed = sig
		note = append(append(note, text...), '\n')
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	if signed {
		return append(notes, note), nil
	}
	switch {
	case len(notes) == 0:
		return nil, errors.New("it holds no checkpoint as serve writes it: origin, size, root, an empty line, signatures")
	case len(note) > 0:
		return nil, fmt.Errorf("line %d: the last checkpoint has no signature: remove it if it was cut off while it was copied", line)
	}
	return notes, nil
}
