package merkle

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestWitnessesThatHangOrFailDelayNothing(t *testing.T) {
	dir := t.TempDir()
	hang := make(chan struct{})
	var calls atomic.Int32
	l, err := Open(dir, Options{Log: quiet, Witnesses: []Sink{
		func(ctx context.Context, _ []byte) error { calls.Add(1); <-hang; return nil },
		func(ctx context.Context, _ []byte) error { return errors.New("no") },
		FileSink(filepath.Join(t.TempDir(), "missing", "file")),
	}})
	if err != nil {
		t.Fatal(err)
	}
	add(t, l, 0, 200)
	if err := l.sign(); err != nil {
		t.Fatal(err)
	}
	if l.Err() != nil || headSize(t, l.Checkpoint()) != l.Size() {
		t.Fatal("not signed", l.Err())
	}
	if n := calls.Load(); n > 1 {
		t.Fatalf("%d calls at once", n)
	}
	close(hang)
	closeLog(t, l)
}

func TestTheNewestCheckpointIsDeliveredAtOnceAndAgainAfterErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var got []string
		var fail atomic.Bool
		s := newSink(func(_ context.Context, b []byte) error {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, string(b))
			if fail.Load() {
				return errors.New("no")
			}
			return nil
		}, quiet)
		closing, ended := make(chan struct{}), make(chan struct{})
		go func() { s.run(t.Context(), closing); close(ended) }()
		want := func(w ...string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if strings.Join(got, " ") != strings.Join(w, " ") {
				t.Fatalf("delivered %q, want %q", got, w)
			}
		}
		s.offer([]byte("a"))
		want("a")
		s.offer([]byte("b")) // within the second
		s.offer([]byte("c"))
		want("a")
		time.Sleep(sinkEvery)
		want("a", "c")
		time.Sleep(time.Hour)
		want("a", "c")
		fail.Store(true)
		s.offer([]byte("d"))
		want("a", "c", "d")
		time.Sleep(sinkBackoff)
		want("a", "c", "d", "d")
		s.offer([]byte("e"))
		fail.Store(false)
		time.Sleep(2 * sinkBackoff)
		want("a", "c", "d", "d", "e")
		// The last one when the log is closed, without waiting.
		time.Sleep(time.Minute)
		s.offer([]byte("f"))
		want("a", "c", "d", "d", "e", "f")
		s.offer([]byte("g"))
		close(closing)
		want("a", "c", "d", "d", "e", "f", "g")
		<-ended
	})
}

func TestTheFileOfCheckpointsHoldsWholeOnesOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kept")
	dir := filepath.Join(t.TempDir(), "log")
	o := Options{Witnesses: []Sink{FileSink(path)}}
	for range 3 {
		l := open(t, dir, o)
		add(t, l, 0, 5)
		closeLog(t, l)
	}
	b := read(t, path)
	notes := SplitCheckpoints(b)
	if len(notes) < 3 {
		t.Fatalf("%d checkpoints", len(notes))
	}
	last := read(t, filepath.Join(dir, checkpointName))
	if !bytes.Equal(notes[len(notes)-1], last) {
		t.Fatalf("the last one is %q, want %q", notes[len(notes)-1], last)
	}
	sound(t, dir, VerifyOptions{Checkpoints: notes})
	// A crash while it was written, at each byte.
	sink := FileSink(path)
	for i := range last {
		write(t, path, append(bytes.Clone(b), last[:i]...))
		if err := sink(t.Context(), last); err != nil {
			t.Fatal(err)
		}
		sound(t, dir, VerifyOptions{Checkpoints: SplitCheckpoints(read(t, path))})
		write(t, path, last[:i])
		if err := sink(t.Context(), last); err != nil {
			t.Fatal(err)
		}
		if got := read(t, path); !bytes.Equal(got, last) {
			t.Fatalf("cut at %d: %q", i, got)
		}
	}
}

func TestAFileOfSomethingElseIsNotWrittenTo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "precious")
	write(t, path, []byte("something\nelse\n"))
	if err := FileSink(path)(t.Context(), []byte("o\n1\nx\n\n— o y\n")); err == nil {
		t.Fatal("no error")
	}
	if string(read(t, path)) != "something\nelse\n" {
		t.Fatal("changed")
	}
	if err := FileSink(os.DevNull)(t.Context(), []byte("x")); err == nil {
		t.Fatal("a device was taken")
	}
}

func TestCheckpointsArePosted(t *testing.T) {
	var got atomic.Value
	status := http.StatusNoContent
	mux := http.NewServeMux()
	mux.HandleFunc("POST /add", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got.Store(string(b))
		if status == http.StatusFound {
			w.Header().Set("Location", "/elsewhere")
		}
		w.WriteHeader(status)
	})
	mux.HandleFunc("/elsewhere", func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") })
	srv := httptest.NewServer(mux)
	defer srv.Close()
	sink, err := HTTPSink(srv.URL + "/add?token=secret")
	if err != nil {
		t.Fatal(err)
	}
	if err := sink(t.Context(), []byte("a checkpoint")); err != nil || got.Load() != "a checkpoint" {
		t.Fatal(err, got.Load())
	}
	for _, status = range []int{http.StatusFound, 404, 500} {
		if err := sink(t.Context(), []byte("x")); err == nil || strings.Contains(err.Error(), "secret") {
			t.Fatalf("status %d: %v", status, err)
		}
	}
	srv.Close()
	if err := sink(t.Context(), []byte("x")); err == nil || strings.Contains(err.Error(), "secret") {
		t.Fatal(err)
	}
}

func TestAWitnessThatNeverAnswersIsGivenUp(t *testing.T) {
	hang := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-hang }))
	defer srv.Close()
	defer close(hang)
	sink, err := HTTPSink(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := sink(ctx, []byte("x")); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}

func TestOnlyHTTPSLeavesTheHost(t *testing.T) {
	for to, ok := range map[string]bool{
		"https://witness.example/add": true, "http://127.0.0.1:1/": true, "http://[::1]:1/": true, "http://localhost/": true,
		"http://witness.example/add": false, "http://10.0.0.1/": false, "http://127.0.0.1.example/": false,
		"ftp://127.0.0.1/": false, "https:///x": false, "x": false, "": false, "https://a b/": false,
	} {
		if _, err := HTTPSink(to); (err == nil) != ok {
			t.Errorf("%q: %v", to, err)
		}
	}
}
