package clock

import (
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// machine has a wall clock that can be set and a clock that cannot. Both go on
// with the time of the bubble.
type machine struct {
	mu     sync.Mutex
	booted time.Time
	step   time.Duration
	boot   string
}

func newMachine() *machine { return &machine{booted: time.Now(), boot: "boot-1"} }

func (m *machine) wall() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Now().Add(m.step)
}

func (m *machine) set(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.step += d
}

func (m *machine) reboot(down time.Duration, id string) {
	time.Sleep(down)
	m.booted, m.boot = time.Now(), id
}

func (m *machine) options() Options {
	return Options{
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Wall: m.wall, Boot: m.boot,
		Elapsed: func() time.Duration { return time.Since(m.booted) }, sleep: time.Sleep,
	}
}

// open opens a clock whose background loop ends with the test.
func (m *machine) open(t *testing.T, path string) *Clock {
	t.Helper()
	c, err := Open(path, m.options())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// kill ends the loop without a last Persist, as SIGKILL does.
func kill(c *Clock) { c.closing.Do(func() { close(c.stop); <-c.done }) }

func TestNowIgnoresAWallClockSetBackAndFollowsOneSetForward(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		c := m.open(t, filepath.Join(t.TempDir(), "clock"))
		start := c.Now()
		if c.Behind() != 0 || !c.Missing() {
			t.Fatalf("behind %v, missing %v", c.Behind(), c.Missing())
		}
		m.set(-time.Hour)
		time.Sleep(10 * time.Second)
		if got := c.Now().Sub(start); got != 10*time.Second {
			t.Errorf("after a step back Now went on by %v, want 10s", got)
		}
		if c.Behind() != time.Hour {
			t.Errorf("behind %v, want 1h", c.Behind())
		}
		m.set(3 * time.Hour)
		if got := c.Now().Sub(start); got != 2*time.Hour+10*time.Second {
			t.Errorf("after a step forward Now is at %v, want 2h10s", got)
		}
		if c.Behind() != 0 {
			t.Errorf("behind %v, want 0", c.Behind())
		}
		m.set(-3 * time.Hour)
		time.Sleep(time.Second)
		if got := c.Now().Sub(start); got != 2*time.Hour+11*time.Second {
			t.Errorf("after stepping back again Now is at %v, want 2h11s", got)
		}
	})
}

func TestNowNeverGoesBackOverStepsKillsAndRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for seed := range uint64(15) {
			r := rand.New(rand.NewPCG(seed, 0))
			m := newMachine()
			path := filepath.Join(t.TempDir(), "clock")
			c := m.open(t, path)
			last := c.Now()
			for i := range 200 {
				switch r.IntN(4) {
				case 0:
					m.set(time.Duration(r.Int64N(int64(time.Hour))) - 30*time.Minute)
					c.Now()
					synctest.Wait() // a step forward is persisted at once
				case 1:
					time.Sleep(time.Duration(r.Int64N(int64(3 * time.Second))))
				case 2:
					if i == 0 {
						break // a missing file is not made at once
					}
					if err := c.Persist(); err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Duration(r.Int64N(int64(900 * time.Millisecond))))
					last = c.Now()
					kill(c)
					m.set(-time.Duration(r.Int64N(int64(time.Minute))))
					c = m.open(t, path)
				}
				now := c.Now()
				if now.Before(last) {
					t.Fatalf("seed %d, action %d: Now went back by %v", seed, i, last.Sub(now))
				}
				last = now
			}
			kill(c)
		}
	})
}

func TestARebootWithTheWallClockBehindGoesOnAfterTheMark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		path := filepath.Join(t.TempDir(), "clock")
		c := m.open(t, path)
		time.Sleep(5*time.Second + 700*time.Millisecond)
		last := c.Now()
		kill(c)
		m.set(-2 * time.Hour)
		m.reboot(time.Minute, "boot-2")
		c = m.open(t, path)
		if now := c.Now(); now.Before(last) || now.After(last.Add(2*time.Second)) {
			t.Errorf("Now is %v after the last one, want 0 to 2s", now.Sub(last))
		}
		if c.Behind() < time.Hour {
			t.Errorf("behind %v, want about 2h", c.Behind())
		}
		if c.Missing() || c.Problem() != nil {
			t.Errorf("missing %v, problem %v", c.Missing(), c.Problem())
		}
		kill(c)
		m.set(2 * time.Hour)
		m.reboot(time.Minute, "boot-3")
		c = m.open(t, path)
		if now := c.Now(); !now.Equal(m.wall()) || c.Behind() != 0 {
			t.Errorf("Now is %v, want the wall clock; behind %v", now, c.Behind())
		}
	})
}

func TestAMarkFarInTheFutureIsAProblemWithARemedy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		path := filepath.Join(t.TempDir(), "clock")
		m.set(365 * 24 * time.Hour)
		c := m.open(t, path)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if err := c.Persist(); err != nil {
			t.Fatal(err)
		}
		m.set(-365 * 24 * time.Hour)
		c = m.open(t, path)
		err := c.Problem()
		if err == nil || !strings.Contains(err.Error(), "remove "+path) || !strings.Contains(err.Error(), "8760h0m0s") {
			t.Errorf("problem: %v", err)
		}
		if c.Behind() != 365*24*time.Hour {
			t.Errorf("behind %v", c.Behind())
		}
	})
}

func TestEveryChangedByteOfTheFileIsNoticed(t *testing.T) {
	m := mark{Mark: time.Date(2026, 11, 23, 21, 55, 0, 123456789, time.UTC), Boot: "b", Elapsed: 42}
	good, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decodeMark(good); err != nil || got != m {
		t.Fatalf("got %v, %v", got, err)
	}
	for i := range good {
		for bit := range 8 {
			bad := append([]byte(nil), good...)
			bad[i] ^= 1 << bit
			if _, err := decodeMark(bad); err == nil {
				t.Errorf("byte %d bit %d changed: not noticed", i, bit)
			}
		}
		if _, err := decodeMark(good[:i]); err == nil {
			t.Errorf("cut to %d bytes: not noticed", i)
		}
	}
}

func TestACorruptFileIsAnErrorThatSaysWhatToDo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "clock")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(path, Options{})
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "remove the file") {
		t.Errorf("error: %v", err)
	}
}

func TestAnUnwritableFileIsReportedAndTheClockGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		dir := filepath.Join(t.TempDir(), "data")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "clock")
		c := m.open(t, path)
		// A directory in the place of the temporary file, since root may write anywhere.
		if err := os.Mkdir(path+".tmp", 0o700); err != nil {
			t.Fatal(err)
		}
		start := c.Now()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if c.Problem() == nil || c.Persist() == nil {
			t.Error("not reported")
		}
		if got := c.Now().Sub(start); got != 2*time.Second {
			t.Errorf("Now went on by %v", got)
		}
		if err := os.Remove(path + ".tmp"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if err := c.Problem(); err != nil {
			t.Errorf("still a problem: %v", err)
		}
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("file: %v %v", st, err)
		}
	})
}

func TestAMissingFileStaysMissingWhenTheCallerDoesNotGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		path := filepath.Join(t.TempDir(), "clock")
		for range 2 {
			c, err := Open(path, m.options())
			if err != nil || !c.Missing() {
				t.Fatalf("missing %v, error %v", c.Missing(), err)
			}
			later := c.Now().Add(time.Minute)
			c.AtLeast(later)
			c.AtLeast(later.Add(-time.Hour))
			if !c.Now().Equal(later) {
				t.Errorf("Now is %v, want %v", c.Now(), later)
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestTimerFiresAtItsTimeAndSoonAfterAStepPastIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine()
		c := m.open(t, filepath.Join(t.TempDir(), "clock"))
		at := c.Now().Add(10*time.Second + 3*time.Millisecond)
		tm := c.Timer(at)
		if got := <-tm.C; !got.Equal(at) {
			t.Errorf("fired %v after its time", got.Sub(at))
		}

		tm = c.Timer(c.Now().Add(time.Hour))
		time.Sleep(time.Minute)
		m.set(2 * time.Hour)
		begin := time.Now()
		<-tm.C
		if took := time.Since(begin); took > recheck {
			t.Errorf("a step forward was noticed after %v", took)
		}

		at = c.Now().Add(time.Minute)
		tm = c.Timer(at)
		m.set(-time.Hour)
		if got := <-tm.C; !got.Equal(at) {
			t.Errorf("after a step back it fired %v after its time", got.Sub(at))
		}

		tm = c.Timer(c.Now().Add(time.Second))
		tm.Stop()
		tm.Stop()
		time.Sleep(time.Minute)
		select {
		case <-tm.C:
			t.Error("fired after Stop")
		default:
		}
		if got := <-c.Timer(c.Now().Add(-time.Hour)).C; !got.Equal(c.Now()) {
			t.Errorf("a time in the past fired at %v", got)
		}
	})
}

func TestConcurrentReadersNeverSeeTimeGoBack(t *testing.T) {
	c, err := Open(filepath.Join(t.TempDir(), "clock"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			last := c.Now()
			for range 20000 {
				now := c.Now()
				if now.Before(last) {
					t.Errorf("went back by %v", last.Sub(now))
					return
				}
				last = now
			}
		})
	}
	wg.Wait()
	if c.Behind() != 0 {
		t.Errorf("behind %v", c.Behind())
	}
	if d := time.Since(c.Now()).Abs(); d > time.Second {
		t.Errorf("Now differs from the wall clock by %v", d)
	}
}

// BenchmarkTimer reports how late timers fire on the real clock.
func BenchmarkTimer(b *testing.B) {
	c, err := Open(filepath.Join(b.TempDir(), "clock"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	var most time.Duration
	for b.Loop() {
		at := c.Now().Add(7300 * time.Microsecond)
		late := (<-c.Timer(at).C).Sub(at)
		most = max(most, late)
	}
	b.ReportMetric(float64(most.Microseconds()), "most-late-µs")
}
