package dataplane

import (
	"context"
	"fmt"
	"net/http"
)

// Admin is the admin interface of an Envoy that another process runs.
type Admin struct{ client *http.Client }

// NewAdmin asks on a unix socket. Nothing is dialled yet.
func NewAdmin(socket string) Admin { return Admin{adminClient(socket)} }

// Ask is as Envoy.Admin.
func (a Admin) Ask(ctx context.Context, method, path string) ([]byte, error) {
	return askAdmin(ctx, a.client, method, path, maxAdminBody)
}

// ReopenLogs is as Envoy.ReopenLogs.
func (a Admin) ReopenLogs(ctx context.Context) error {
	_, err := a.Ask(ctx, http.MethodPost, "/reopen_logs")
	return err
}

// Counters is as Envoy.Counters. The epoch is what each counter says: the Envoy
// behind the socket may be another one each time.
func (a Admin) Counters(ctx context.Context) (Counters, error) {
	ctx, cancel := context.WithTimeout(ctx, countersTimeout)
	defer cancel()
	text, err := askCounters(ctx, a.client)
	if err != nil {
		return Counters{}, err
	}
	c, err := parseCounters(text)
	if err == nil && c.Epoch == "" {
		err = fmt.Errorf("stats: none has a label %s", epochLabel)
	}
	return c, err
}
