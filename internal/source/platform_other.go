//go:build !linux

package source

import (
	"io/fs"
	"os"
)

func sysStat(*stat, fs.FileInfo) {}

func lease(*os.File) (held bool, err error) { return false, nil }

const openFlags = os.O_RDONLY
