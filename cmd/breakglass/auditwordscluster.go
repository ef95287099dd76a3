package main

import (
	"cmp"
	"fmt"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
)

func tellRead(r audit.Read) telling {
	t := telling{who: cmp.Or(r.By, "somebody"), message: r.What}
	if r.Refused != "" {
		t.event, t.message = "refused", r.What+": "+r.Refused
	}
	return t
}

func tellSource(s audit.Source) telling {
	return telling{event: s.Event, who: s.Identity, object: s.Log, message: fmt.Sprintf("%d of its entries are here", s.Taken)}
}
