package merkle

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/breakglass-gateway/breakglass-gateway/audit/durable"
)

// FileSink appends each checkpoint to a file and syncs it. What a crash left of
// an unfinished one is cut off. The file is made when it is not there; its
// directory must be.
func FileSink(path string) Sink {
	return func(_ context.Context, checkpoint []byte) error {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NONBLOCK, 0o600)
		if err != nil {
			return fmt.Errorf("write the checkpoint: %w", err)
		}
		err = appendNote(f, checkpoint)
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("write the checkpoint to %s: %w", path, err)
		}
		return nil
	}
}

func appendNote(f *os.File, checkpoint []byte) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return errors.New("not a regular file")
	}
	from := max(0, st.Size()-2*maxNote)
	tail := make([]byte, st.Size()-from)
	if _, err := f.ReadAt(tail, from); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	whole := wholeNotes(tail)
	if whole == 0 && st.Size() > 0 && !bytes.HasPrefix(checkpoint, firstLine(tail)) {
		return errors.New("it holds something else than checkpoints; name another file")
	}
	if bytes.HasSuffix(tail, checkpoint) {
		return nil // before a restart
	}
	end := from + int64(whole)
	_, err = f.WriteAt(checkpoint, end)
	if err == nil {
		err = f.Truncate(end + int64(len(checkpoint)))
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		// Best effort: the next one cuts it, too.
		_ = f.Truncate(end)
		return err
	}
	if st.Size() == 0 {
		return durable.SyncDir(filepath.Dir(f.Name()))
	}
	return nil
}

// wholeNotes returns where the last signature line ends.
func wholeNotes(b []byte) int {
	for end := bytes.LastIndexByte(b, '\n'); end >= 0; {
		begin := bytes.LastIndexByte(b[:end], '\n')
		if bytes.HasPrefix(b[begin+1:], []byte("— ")) {
			return end + 1
		}
		end = begin
	}
	return 0
}

// firstLine returns the first line of a note, or what there is of it.
func firstLine(b []byte) []byte {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return b[:i+1]
	}
	return b
}

// HTTPSink posts each checkpoint to a URL: https, or http to this host. Any 2xx
// is a success; redirects are not followed.
func HTTPSink(to string) (Sink, error) {
	u, err := url.Parse(to)
	if err != nil {
		return nil, errors.New("the URL for checkpoints cannot be parsed") // it may hold a secret
	}
	if u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || !Loopback(u.Hostname())) {
		return nil, fmt.Errorf("the URL for checkpoints, at %q: must be https (http to this host only)", u.Host)
	}
	client := &http.Client{
		Timeout:       sinkTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, MaxConnsPerHost: 1, IdleConnTimeout: sinkMost,
			MaxResponseHeaderBytes: maxNote, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
		},
	}
	return func(ctx context.Context, checkpoint []byte) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(checkpoint))
		if err != nil {
			return fmt.Errorf("post the checkpoint to %s: %w", u.Host, err)
		}
		req.Header.Set("Content-Type", "text/plain; charset=utf-8")
		resp, err := client.Do(req)
		if err != nil {
			var ue *url.Error
			if errors.As(err, &ue) {
				err = ue.Err // without the path and the query
			}
			return fmt.Errorf("post the checkpoint to %s: %w", u.Host, err)
		}
		defer resp.Body.Close()
		// Read, so that the connection can be used again.
		_, _ = io.CopyN(io.Discard, resp.Body, maxNote)
		if resp.StatusCode/100 != 2 {
			return fmt.Errorf("post the checkpoint to %s: the answer was %d", u.Host, resp.StatusCode)
		}
		return nil
	}, nil
}

// Loopback reports whether a host of a URL is this one, to which plain http may go.
func Loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// SinkTo is the sink of a file, or of a URL.
func SinkTo(to string) (Sink, error) {
	if strings.Contains(to, "://") {
		return HTTPSink(to)
	}
	return FileSink(to), nil
}
