package jwks

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestARestartDuringAnOutageWorks(t *testing.T) {
	dir, c := filepath.Join(t.TempDir(), "data", "jwks"), newClock()
	src, srv := serve(t, answering(document(t, member(t, "p256-a", nil))))
	first := newStepped(t, dir, c)
	first.want(src)
	first.attempted()
	fetched := first.result().FetchedAt
	first.Close()
	srv.Close()
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory: %v %v", info.Mode(), err)
	}
	if info, err := os.Stat(cachePath(dir, theKey)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v", err)
	}

	c.add(23 * time.Hour)
	second := newStepped(t, dir, c)
	second.want(src)
	// At once, before any attempt.
	if got := second.result(); kid(got) != "p256-a" || !got.Stale || !got.FetchedAt.Equal(fetched) {
		t.Fatalf("got %+v", got)
	}
	<-second.Changed()
	second.attempted()
	if got := second.result(); kid(got) != "p256-a" || got.Err == nil || !got.Expires.Equal(fetched.Add(24*time.Hour)) {
		t.Errorf("got %+v", got)
	}
	second.Close()
	c.add(time.Hour)
	third := newStepped(t, dir, c)
	third.want(src)
	if got := third.result(); got.Set != nil {
		t.Errorf("used after maxStale: %+v", got)
	}
}

func TestWhatIsOnDiskIsNotBelievedBlindly(t *testing.T) {
	c := newClock()
	src, srv := serve(t, answering(document(t, member(t, "p256-a", nil))))
	srv.Close()
	good := stored{Policy: theKey.Policy, Issuer: theKey.Issuer, URI: src.URI, FetchedAt: c.now(), Body: document(t, member(t, "p256-a", nil))}
	write := func(t *testing.T, change func(*stored)) string {
		dir := t.TempDir()
		s := good
		change(&s)
		if err := save(dir, theKey, s); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	same := func(*stored) {}
	damage := func(to string) func(*testing.T) string {
		return func(t *testing.T) string {
			dir := write(t, same)
			if err := os.WriteFile(cachePath(dir, theKey), []byte(to), 0o600); err != nil {
				t.Fatal(err)
			}
			return dir
		}
	}
	mode := func(mode os.FileMode) func(*testing.T) string {
		return func(t *testing.T) string {
			dir := write(t, same)
			if err := os.Chmod(cachePath(dir, theKey), mode); err != nil {
				t.Fatal(err)
			}
			return dir
		}
	}
	for name, prepare := range map[string]func(*testing.T) string{
		"another uri":     func(t *testing.T) string { return write(t, func(s *stored) { s.URI += "x" }) },
		"another issuer":  func(t *testing.T) string { return write(t, func(s *stored) { s.Issuer += "x" }) },
		"another policy":  func(t *testing.T) string { return write(t, func(s *stored) { s.Policy += "x" }) },
		"from the future": func(t *testing.T) string { return write(t, func(s *stored) { s.FetchedAt = s.FetchedAt.Add(1) }) },
		"no time":         func(t *testing.T) string { return write(t, func(s *stored) { s.FetchedAt = time.Time{} }) },
		"too old": func(t *testing.T) string {
			return write(t, func(s *stored) { s.FetchedAt = s.FetchedAt.Add(-24 * time.Hour) })
		},
		"a body that is wrong": func(t *testing.T) string { return write(t, func(s *stored) { s.Body = []byte("{}") }) },
		"a private key": func(t *testing.T) string {
			return write(t, func(s *stored) { s.Body = document(t, member(t, "p256", map[string]any{"d": "AA"})) })
		},
		"empty":               damage(""),
		"half":                damage(`{"policy":"emergency","iss`),
		"too large":           damage(`{"policy":"` + strings.Repeat("x", maxFile) + `"}`),
		"writable by a group": mode(0o660),
		"writable by all":     mode(0o602),
		"a link": func(t *testing.T) string {
			dir := write(t, same)
			path := cachePath(dir, theKey)
			if err := errors.Join(os.Rename(path, path+"2"), os.Symlink(path+"2", path)); err != nil {
				t.Fatal(err)
			}
			return dir
		},
		"a directory": func(t *testing.T) string {
			dir := t.TempDir()
			if err := os.Mkdir(cachePath(dir, theKey), 0o700); err != nil {
				t.Fatal(err)
			}
			return dir
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStepped(t, prepare(t), c)
			s.want(src)
			if got := s.result(); got.Set != nil {
				t.Errorf("it was used: %+v", got)
			}
			if !strings.Contains(s.logs.String(), "not used") {
				t.Error("nothing was logged")
			}
		})
	}
	s := newStepped(t, write(t, same), c)
	s.want(src)
	if kid(s.result()) != "p256-a" {
		t.Error("the good one was not used either")
	}
}

func TestACorruptFileIsReplacedByTheNextAnswer(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	if err := os.WriteFile(cachePath(dir, theKey), []byte("rubbish"), 0o644); err != nil {
		t.Fatal(err)
	}
	src, _ := serve(t, answering(document(t, member(t, "p256-a", nil))))
	s := newStepped(t, dir, c)
	s.want(src)
	s.attempted()
	if res, err := Cached(dir, theKey, src, c.now()); err != nil || kid(res) != "p256-a" {
		t.Errorf("got %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestAKeySetThatCannotBeSavedIsStillUsed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	src, _ := serve(t, answering(document(t, member(t, "p256-a", nil))))
	s := newStepped(t, filepath.Join(file, "jwks"), newClock())
	s.want(src)
	s.attempted()
	if got := s.result(); kid(got) != "p256-a" || got.Stale || got.Err == nil || !strings.Contains(got.Err.Error(), "not survive a restart") {
		t.Errorf("got %+v", got)
	}
}
