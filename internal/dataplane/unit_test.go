package dataplane

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func testConfig(t *testing.T) Config {
	t.Helper()
	dir := shortDir(t)
	return Config{
		Name: "payments/emergency", NodeID: "payments/emergency",
		XDSSocket: filepath.Join(dir, "xds.sock"), ALSSocket: filepath.Join(dir, "als.sock"), IntentSocket: filepath.Join(dir, "intent.sock"),
		EnvoyPath: "/bin/true", Dir: filepath.Join(dir, "run"),
	}
}

// shortDir is a temporary directory in which a socket path fits.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "bg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestDirNamesAreShortSafeAndNeverEqual(t *testing.T) {
	names := []string{
		"payments/emergency", "payments-emergency", "payments/Emergency", "../../etc/passwd", "", "/", "a/b\x00c",
		"payments/emergency-gateway-number-one", "payments/emergency-gateway-number-two", strings.Repeat("x", 500), "ünïcode/ß",
	}
	seen := map[string]string{}
	for _, name := range names {
		dir := DirName(name)
		if len(dir) > 25 || strings.ContainsAny(dir, "/.\x00") || dir == "" {
			t.Errorf("DirName(%q) = %q", name, dir)
		}
		if other, ok := seen[dir]; ok {
			t.Errorf("DirName(%q) = DirName(%q) = %q", name, other, dir)
		}
		seen[dir] = name
	}
}

func TestASocketPathThatIsTooLongIsRefusedWithARemedy(t *testing.T) {
	c := testConfig(t)
	c.Dir = "/" + strings.Repeat("d", 90)
	_, err := c.withDefaults()
	if err == nil || !strings.Contains(err.Error(), "shorter path") || !strings.Contains(err.Error(), "admin.sock") {
		t.Errorf("error %v", err)
	}
	c = testConfig(t)
	c.XDSSocket = "relative.sock"
	if _, err = c.withDefaults(); err == nil || !strings.Contains(err.Error(), "relative.sock") {
		t.Errorf("error %v", err)
	}
	c = testConfig(t)
	c.NodeID = ""
	if _, err = c.withDefaults(); err == nil || !strings.Contains(err.Error(), "NodeID") {
		t.Errorf("error %v", err)
	}
}

func TestTheBootstrapIsTheSameEveryTimeAndDependsOnTheConfig(t *testing.T) {
	c := testConfig(t)
	first, err := c.bootstrap()
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		again, err := c.bootstrap()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first, again) {
			t.Fatalf("two bootstraps of one Config:\n%s\n%s", first, again)
		}
	}
	c.NodeID = "another"
	other, err := c.bootstrap()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(first, other) {
		t.Error("the node id is not in the bootstrap")
	}
}

func TestDirectoriesAndFilesAreClosedToOthers(t *testing.T) {
	c := testConfig(t)
	if err := os.MkdirAll(c.dir(), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(c.dir(), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := c.prepareDir(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{c.Dir, c.dir(), c.file(SpoolDir)} {
		if mode := statMode(t, dir); mode != 0o700 {
			t.Errorf("%s has mode %o", dir, mode)
		}
	}
	file := filepath.Join(c.dir(), "f")
	if err := writeFile(file, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if mode := statMode(t, file); mode != 0o600 {
		t.Errorf("file mode %o", mode)
	}
}

func statMode(t *testing.T, path string) os.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}

func TestADirectoryThatIsASymbolicLinkIsRefused(t *testing.T) {
	c := testConfig(t)
	if err := os.Mkdir(c.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(t.TempDir(), c.dir()); err != nil {
		t.Fatal(err)
	}
	if err := c.prepareDir(); err == nil {
		t.Error("no error")
	}
}

func TestALockIsSeenWithoutBeingTakenAndGoesWithItsLastDescriptor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	check := func(want bool) {
		t.Helper()
		if got, err := isLocked(path); err != nil || got != want {
			t.Fatalf("isLocked = %v, %v, want %v", got, err, want)
		}
	}
	check(false)
	lock, err := takeLock(path)
	if err != nil {
		t.Fatal(err)
	}
	check(true)
	if _, err := takeLock(path); !errors.Is(err, errLocked) {
		t.Fatalf("second lock: %v", err)
	}

	// A child inherits the lock, and has it for as long as it lives.
	cmd := exec.Command("cat")
	cmd.ExtraFiles = []*os.File{lock}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	check(true)
	_ = in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	check(false)
}

func TestAnOrphanLivesUntilItsLastDeadlineOnEitherClock(t *testing.T) {
	wall := time.Date(2026, 11, 3, 10, 0, 0, 0, time.UTC)
	const boot = 1000 * time.Second
	for _, c := range []struct {
		name string
		file *lastDeadline
		step time.Duration // of the wall clock, right after the control plane vanished
		want time.Duration // life after that
	}{
		{"no deadline", nil, 0, orphanIdle},
		{"deadline ahead", &lastDeadline{Wall: wall.Add(time.Minute), Boot: boot + time.Minute}, 0, time.Minute + orphanGrace},
		{"deadline past", &lastDeadline{Wall: wall.Add(-time.Second), Boot: boot - time.Second}, 0, orphanIdle},
		{"deadline of an earlier boot", &lastDeadline{Wall: wall.Add(-time.Hour), Boot: boot + time.Hour}, 0, orphanIdle},
		{"wall clock stepped back since it was recorded", &lastDeadline{Wall: wall.Add(time.Hour), Boot: boot + time.Minute}, 0, time.Minute + orphanGrace},
		{"wall clock stepped forward since it was recorded", &lastDeadline{Wall: wall.Add(time.Second), Boot: boot + time.Hour}, 0, time.Second + orphanGrace},
		{"wall clock steps back in orphanhood", &lastDeadline{Wall: wall.Add(time.Minute), Boot: boot + time.Minute}, -time.Hour, time.Minute + orphanGrace},
		{"wall clock steps forward in orphanhood", &lastDeadline{Wall: wall.Add(time.Minute), Boot: boot + time.Minute}, time.Hour, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if c.file != nil {
				writeRaw(t, dir, *c.file)
			}
			o := newOrphan(dir, wall, boot)
			due := func(after time.Duration) bool { return o.due(wall.Add(after+c.step), boot+after) }
			if c.want > 0 && due(c.want-time.Millisecond) {
				t.Errorf("due 1 ms too early")
			}
			if !due(c.want) {
				t.Errorf("not due after %v; left %v", c.want, o.left)
			}
		})
	}
}

func TestAnOrphanWhoseSpoolIsGoneIsUnrecordableUnlessThePolicyWantsItServed(t *testing.T) {
	dir := t.TempDir()
	spool := filepath.Join(dir, SpoolDir)
	if err := os.Mkdir(spool, 0o700); err != nil {
		t.Fatal(err)
	}
	if (&orphan{}).unrecordable(dir) {
		t.Fatal("with a spool and room for it")
	}
	if err := os.Remove(spool); err != nil {
		t.Fatal(err)
	}
	if !(&orphan{}).unrecordable(dir) {
		t.Error("its spool was removed, and it would live on")
	}
	if (&orphan{unrecorded: true}).unrecordable(dir) {
		t.Error("the policy wants it served")
	}
}

func TestTheDeadlineFileIsReadBackAndRemoved(t *testing.T) {
	dir := t.TempDir()
	if _, ok := readDeadline(dir); ok {
		t.Fatal("a deadline in an empty directory")
	}
	for _, want := range []time.Time{time.Now().Add(time.Minute), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)} {
		unrecorded := want.Year() == 9999
		if err := writeDeadline(dir, Life{want, unrecorded}); err != nil {
			t.Fatal(err)
		}
		got, ok := readDeadline(dir)
		if !ok || !got.Wall.Equal(want) || got.Boot < sinceBoot() || got.Unrecorded != unrecorded {
			t.Errorf("read %v, %v, want %v", got, ok, want)
		}
	}
	for range 2 {
		if err := writeDeadline(dir, Life{}); err != nil {
			t.Fatal(err)
		}
		if _, ok := readDeadline(dir); ok {
			t.Error("a deadline after it was removed")
		}
	}
	if err := os.WriteFile(filepath.Join(dir, fileDeadline), []byte("{half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, ok := readDeadline(dir); ok {
		t.Error("a deadline from a broken file")
	}
}

func TestAProcessThatOnlyClaimsToBeEnvoyIsNotProven(t *testing.T) {
	dir := t.TempDir()
	lockPath := filepath.Join(dir, fileEnvoyLock)
	lock, err := takeLock(lockPath)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	info, err := lock.Stat()
	if err != nil {
		t.Fatal(err)
	}
	start := func(files []*os.File, args ...string) int {
		cmd := exec.Command("sleep", "60")
		cmd.Args = append(cmd.Args[:1], append([]string{"60"}, args...)...)
		if len(args) > 0 { // sleep refuses such arguments; sh does not
			cmd = exec.Command("sh", append([]string{"-c", "sleep 60 & wait", "sh"}, args...)...)
		}
		cmd.ExtraFiles = files
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return cmd.Process.Pid
	}
	ours := []string{"-c", filepath.Join(dir, fileBootstrap)}
	lockless := start(nil, ours...)
	stranger := start([]*os.File{lock})
	for name, pid := range map[string]int{"our command line without the lock": lockless, "the lock with another command line": stranger} {
		p, err := openProcess(pid, nil)
		if err != nil {
			t.Fatal(err)
		}
		if p.isEnvoyOf(dir, info) {
			t.Errorf("%s is taken for our Envoy", name)
		}
		p.release()
	}
	if p := findEnvoyOf(dir, info); p != nil {
		t.Errorf("process %d was found", p.pid)
	}

	// Somebody holds the lock and nobody is proven: an error, and hands off.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := holder(ctx, dir); err == nil || !strings.Contains(err.Error(), "left alone") {
		t.Errorf("holder: %v", err)
	}
}

func TestWhatAnOperatorHearsOfALog(t *testing.T) {
	const inUse = "[2026-11-03 10:00:00.000][12][warning][config] [source/common/config/x.cc:1] delta config for " +
		"type.googleapis.com/envoy.config.listener.v3.Listener rejected: edge: cannot bind '127.0.0.1:80': Address already in use\n"
	const critical = "[2026-11-03 10:00:00.000][12][critical][main] [source/server/server.cc:435] error initializing config 'x': no\n"
	const trace = "[2026-11-03 10:00:00.000][12][critical][backtrace] [./source/server/backtrace.h:129] #0: foo\n"
	for _, c := range []struct{ log, cause, inUse string }{
		{"", "", ""},
		{inUse, "cannot bind '127.0.0.1:80'", "cannot bind '127.0.0.1:80'"},
		{inUse + critical + trace, "error initializing config 'x': no", "cannot bind"},
		{"envoy: libfoo.so: not found\n", "envoy: libfoo.so: not found", ""},
	} {
		if got := firstCause(c.log); !strings.Contains(got, c.cause) || (c.cause == "") != (got == "") {
			t.Errorf("firstCause(%q) = %q", c.log, got)
		}
		if got := addressInUse(c.log); !strings.Contains(got, c.inUse) || (c.inUse == "") != (got == "") {
			t.Errorf("addressInUse(%q) = %q", c.log, got)
		}
	}
}

func TestCountersAreThoseOfOurChainsOnly(t *testing.T) {
	got, err := parseCounters([]byte(`# TYPE envoy_http_downstream_rq_active gauge
envoy_http_downstream_rq_active{chain="http-80"} 6
envoy_http_downstream_rq_active{chain="https-443-a.b"} 1
envoy_http_downstream_rq_active{} 99
# TYPE envoy_filesystem_reopen_failed counter
envoy_filesystem_reopen_failed{} 3

# TYPE envoy_filesystem_write_failed counter
envoy_filesystem_write_failed{} 4
# TYPE envoy_http_downstream_rq_total counter
envoy_http_downstream_rq_total{chain="http-80"} 70
envoy_http_downstream_rq_total{chain="https-443-a.b"} 700
# TYPE envoy_http_admin_downstream_rq_total counter
envoy_http_admin_downstream_rq_total{} 99
# TYPE envoy_limit_http_local_rate_limit_enforced counter
envoy_limit_http_local_rate_limit_enforced{} 8
# TYPE envoy_filesystem_write_total_buffered gauge
envoy_filesystem_write_total_buffered{} 5
`))
	want := Counters{Chains: map[string]Requests{"http-80": {70, 6}, "https-443-a.b": {700, 1}}, Limited: 8, FileWriteFailed: 4, FileReopenFailed: 3, FileBuffered: 5}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	if _, err := parseCounters([]byte("envoy_http_downstream_rq_total{chain=\"http-80\"} many\n")); err == nil {
		t.Error("no error")
	}
}

func TestVersionsAreReadAndAStrangeOneWarns(t *testing.T) {
	for _, c := range []struct {
		out, version string
		warn, err    bool
	}{
		{"\n/x/envoy  version: 9e55/1.40.0/Clean/RELEASE/BoringSSL\n", "1.40.0", false, false},
		{"/x/envoy  version: 9e55/1.40.3/Clean/RELEASE/BoringSSL", "1.40.3", false, false},
		{"/x/envoy  version: 9e55/1.4.0/Clean/RELEASE/BoringSSL", "1.4.0", true, false},
		{"GNU bash, version 5", "", false, true},
		{"", "", false, true},
	} {
		version, warning, err := parseVersion("/x/envoy", c.out)
		if version != c.version || (warning != "") != c.warn || (err != nil) != c.err {
			t.Errorf("parseVersion(%q) = %q, %q, %v", c.out, version, warning, err)
		}
	}
}

func TestFindPrefersWhatWasAskedForAndNeverReplacesIt(t *testing.T) {
	dir := t.TempDir()
	bin := func(path ...string) string {
		file := filepath.Join(append([]string{dir}, path...)...)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return file
	}
	explicit, env, path, cached := bin("e", "envoy"), bin("v", "envoy"), bin("p", "envoy"), bin("c", "tools", "envoy-1.40.0", "envoy")
	check := func(flag, want string) {
		t.Helper()
		if got, err := Find(flag); got != want {
			t.Errorf("Find(%q) = %q, %v, want %q", flag, got, err, want)
		}
	}
	t.Setenv("BREAKGLASS_ENVOY", env)
	t.Setenv("PATH", filepath.Dir(path))
	t.Setenv("BREAKGLASS_CACHE", filepath.Join(dir, "c"))
	check(explicit, explicit)
	check("", env)
	check(filepath.Join(dir, "missing"), "")
	t.Setenv("BREAKGLASS_ENVOY", "")
	check("", path)
	t.Setenv("PATH", dir)
	check("", cached)
	t.Setenv("BREAKGLASS_CACHE", filepath.Join(dir, "none"))
	if _, err := Find(""); err == nil || !strings.Contains(err.Error(), "make envoy") {
		t.Errorf("Find without any: %v", err)
	}
}

func writeRaw(t *testing.T, dir string, d lastDeadline) {
	t.Helper()
	b, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeFile(filepath.Join(dir, fileDeadline), b); err != nil {
		t.Fatal(err)
	}
}
