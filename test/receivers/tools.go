//go:build tools

package receivers

import _ "github.com/santhosh-tekuri/jsonschema/v6"
