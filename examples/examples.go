// Package examples holds a break-glass repository as a team keeps it, for the
// demo. Read the files: they are the documentation.
package examples

import "embed"

// FS holds repo and drills.
//
//go:embed repo drills
var FS embed.FS
