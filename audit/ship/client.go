package ship

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

const (
	// leastBackoff and mostBackoff bound the time between attempts.
	leastBackoff, mostBackoff = 20 * time.Millisecond, time.Second
	// requestMost is how long a request may take: a service that does not answer for so
	// long is asked anew, over another connection.
	requestMost = 5 * time.Second
	// sayEvery is how often a client that has nothing to bring says that it is there.
	sayEvery = 5 * time.Second
	// checkpointEvery is how often it adds the log's checkpoint.
	checkpointEvery = time.Minute
)

// Options of a Client.
type Options struct {
	// Service is HOST:PORT.
	Service string
	// TLS is asked for each connection: certificates are renewed.
	TLS func() (*tls.Config, error)
	// Mark is a file next to the log, which says since when entries were brought to
	// which service.
	Mark string
	Log  *slog.Logger
}

// Client brings the entries of one log to a service until Run ends.
type Client struct {
	opts    Options
	http    *http.Client
	session string
	// Between attempts; tests have less time.
	least, most time.Duration

	mu        sync.Mutex
	log       *merkle.Log
	opened    chan struct{} // closed, and replaced, when log is another
	finishing bool
	next      uint64 // what is before it is confirmed
	changed   chan struct{}
	stats     Stats
	waiting   time.Time // of the oldest entry that was read and not confirmed

	finish chan struct{} // closed by Finish
	done   chan struct{} // closed when the service knows that the log is at its end

	// Of Run's goroutine.
	mark    mark
	reader  *merkle.LogReader
	pending []merkle.Entry
	told    time.Time // when the checkpoint was sent, last
}

// Stats are for metrics.
type Stats struct {
	Shipped  uint64 // entries that were confirmed since the start
	Next     uint64 // the seq up to which all are confirmed
	Size     uint64 // entries of the log
	Unsent   uint64 // entries that are not confirmed
	Oldest   time.Duration
	Failing  string // why the last attempt failed, "" if it did not
	Failures uint64 // since the start
}

// New makes a client, which does nothing before Opened and Run.
func New(o Options) *Client {
	var id [8]byte
	_, _ = rand.Read(id[:]) // it never fails
	c := &Client{
		opts: o, least: leastBackoff, most: mostBackoff, session: hex.EncodeToString(id[:]), opened: make(chan struct{}), changed: make(chan struct{}),
		finish: make(chan struct{}), done: make(chan struct{}),
	}
	c.http = &http.Client{Transport: &http.Transport{
		DialTLSContext: c.dial, MaxIdleConnsPerHost: 1, MaxConnsPerHost: 1, IdleConnTimeout: 4 * sayEvery, DisableCompression: true,
	}}
	return c
}

func (c *Client) dial(ctx context.Context, network, address string) (net.Conn, error) {
	config, err := c.opts.TLS()
	if err != nil {
		return nil, err
	}
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: requestMost}, Config: config}
	return d.DialContext(ctx, network, address)
}

// Opened gives the client the log, which may be another one than before if that
// could not be used.
func (c *Client) Opened(l *merkle.Log) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log = l
	close(c.opened)
	c.opened = make(chan struct{})
}

// Hold is for the log's Options: what is not confirmed is not removed.
func (c *Client) Hold() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.next
}

// Confirmed is the seq of the first entry that the service has not confirmed yet, and
// what is closed when it is another.
func (c *Client) Confirmed() (next uint64, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.next, c.changed
}

// Stats returns the present counts.
func (c *Client) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	if s.Next = c.next; c.log != nil {
		s.Size = c.log.Size()
	}
	if s.Size > s.Next {
		s.Unsent = s.Size - s.Next
		if !c.waiting.IsZero() {
			s.Oldest = max(0, time.Since(c.waiting))
		}
	}
	return s
}

// Start runs the client. end, once the log was closed, waits that long for Finish, whose
// error it returns, and ends the run.
func (c *Client) Start() (end func(most time.Duration) error) {
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan struct{})
	go func() {
		defer close(ran)
		c.Run(ctx)
	}()
	return func(most time.Duration) error {
		late, stop := context.WithTimeout(context.Background(), most)
		defer stop()
		err := c.Finish(late)
		cancel()
		<-ran
		return err
	}
}

// Finish waits until all of the log, to which nothing is appended any more, is
// confirmed, and the service was told that this is its end. Run must not have ended.
func (c *Client) Finish(ctx context.Context) error {
	c.mu.Lock()
	if !c.finishing {
		c.finishing = true
		close(c.finish)
	}
	none := c.log == nil
	c.mu.Unlock()
	if none {
		return errors.New("the log was never open")
	}
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		if why := c.Stats().Failing; why != "" {
			return errors.New(why)
		}
		return ctx.Err()
	}
}

// Run brings what there is until ctx ends, or Finish has done what it does.
func (c *Client) Run(ctx context.Context) {
	c.mark = readMark(c.opts.Mark, c.opts.Log)
	defer c.http.CloseIdleConnections()
	backoff := c.least
	for ctx.Err() == nil {
		l, opened := c.current()
		if l == nil {
			select {
			case <-opened:
			case <-ctx.Done():
			}
			continue
		}
		moved, err := c.follow(ctx, l, opened)
		if err == nil {
			if c.ended() {
				return
			}
			backoff = c.least // another log was opened
			continue
		}
		if ctx.Err() != nil {
			return
		}
		if moved {
			backoff = c.least
		}
		if !errors.Is(err, errAsk) {
			c.failed(err)
			c.http.CloseIdleConnections()
		}
		select {
		case <-time.After(backoff):
		case <-ctx.Done():
		}
		backoff = min(2*backoff, c.most)
	}
}

func (c *Client) current() (*merkle.Log, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.log, c.opened
}

func (c *Client) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// failed notes why it does not work, and logs it when that is new.
func (c *Client) failed(err error) {
	c.mu.Lock()
	before := c.stats.Failing
	c.stats.Failing = err.Error()
	c.stats.Failures++
	c.mu.Unlock()
	if before == "" {
		c.opts.Log.Warn("the audit log service does not take entries; they are kept here and tried again", "service", c.opts.Service, "error", err)
	}
}

// worked notes that all before next is confirmed.
func (c *Client) worked(next, shipped uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stats.Failing != "" {
		c.opts.Log.Info("the audit log service takes entries again", "service", c.opts.Service)
	}
	c.stats.Failing = ""
	c.stats.Shipped += shipped
	if next != c.next {
		c.next = next
		close(c.changed)
		c.changed = make(chan struct{})
	}
}
