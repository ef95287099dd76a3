//go:build envoy

package serve

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"golang.org/x/sys/unix"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// smallDisk puts the data directory of a world on a disk of its own, and returns
// what fills it and what frees it again.
func smallDisk(w *testbed.World) (fill, free func()) {
	GinkgoHelper()
	Expect(os.Mkdir(w.Data, 0o700)).To(Succeed())
	Expect(syscall.Mount("tmpfs", w.Data, "tmpfs", 0, "size=48m,mode=0700")).To(Succeed(), "this takes root, to mount a small disk")
	DeferCleanup(func() { Expect(syscall.Unmount(w.Data, syscall.MNT_DETACH)).To(Succeed()) })
	ballast := filepath.Join(w.Data, "ballast")
	return func() {
			GinkgoHelper()
			f, err := os.Create(ballast)
			Expect(err).NotTo(HaveOccurred())
			defer f.Close()
			for size := 1 << 20; size > 0; size /= 2 { // to the last byte
				for {
					if _, err := f.Write(make([]byte, size)); err != nil {
						Expect(err).To(MatchError(syscall.ENOSPC))
						break
					}
				}
			}
		}, func() {
			GinkgoHelper()
			Expect(os.Remove(ballast)).To(Succeed())
		}
}

// degrading is a world whose policy lets what is open stay so.
func degrading() *testbed.World {
	GinkgoHelper()
	w := testbed.New()
	w.Policy.OnFailure = "Degrade"
	w.WritePolicy()
	return w
}

var _ = Describe("A full disk", func() {
	It("lets nothing open, says so, closes on time what is open, and recovers by itself", func() {
		w := degrading()
		w.Write("routes.yaml", testbed.Route{Name: "r"}.YAML(), testbed.Route{Name: "s"}.YAML(), testbed.Route{Name: "t"}.YAML())
		fill, free := smallDisk(w)
		w.Start()
		deadline := w.Activate(testbed.Activation{Name: "a", Routes: []string{"r"}, Duration: "5s"})
		w.Activate(testbed.Activation{Name: "b", Routes: []string{"t"}, Duration: "10m"})
		fill()
		stop := probes(w, testbed.Host("r"), "/api/x", w.Token())
		streams := openAll(w, testbed.Host("r"), w.Token())
		// The journal's last page has room for some more.
		for i := 0; i < 20 && !strings.Contains(told(w)(), "nothing can be opened"); i++ {
			name := fmt.Sprintf("filler-%d", i)
			w.Write(name+".yaml", testbed.Activation{Name: name, Routes: []string{"none"}, Incident: strings.Repeat("x", 200), Duration: "10m"}.YAML())
			Eventually(w.Activation).WithArguments(name).ShouldNot(BeNil())
		}

		By("a manifest waits, an activation by command is refused, both with the reason")
		w.Write("c.yaml", testbed.Activation{Name: "c", Routes: []string{"s"}, Duration: "10m"}.YAML())
		Eventually(told(w)).Should(line("nothing can be opened"), "got %s", told(w)())
		Expect(w.Status().Ready).To(BeFalse())
		out, err := w.Run("activate", "pay/s", "--role", "db", "--incident", "INC-1", "--reason", "a test", "--duration", "10m")
		Expect(err).To(HaveOccurred())
		Expect(out).To(And(ContainSubstring("recorded"), ContainSubstring("no space left")))
		staysClosed(w, "s")

		By("what is open goes on, can be revoked, and closes at its deadline")
		stream := w.H1().Events("events", testbed.Host("t"), "/api/stream", w.Token())
		asked, answer := time.Now(), make(chan error, 1)
		go func() {
			_, err := w.TryRevoke("b")
			answer <- err
		}()
		cutAt("stream at a revocation, disk full", stream, asked, revocation)
		staysClosed(w, "t")
		testbed.WaitUntil(deadline.Add(150 * time.Millisecond))
		closesAt("deadline, disk full", stop(deadline), deadline)
		for _, s := range streams {
			cutAt("stream at the deadline, disk full", s, deadline, late)
		}

		// Closed it is. If nobody will remember, whoever asked has to know.
		Eventually(answer).Should(Receive(Or(BeNil(), MatchError(ContainSubstring("not on record")))))

		By("it does not run in circles meanwhile")
		before := w.CPU()
		testbed.WaitUntil(time.Now().Add(time.Second))
		Expect(w.CPU()-before).To(BeNumerically("<", 300*time.Millisecond), "of one second")

		By("with room again, what waits opens")
		free()
		w.AwaitPhase("c", "Live")
		Expect(w.H1().Get(testbed.Host("s"), "/api/x", w.Token())).To(haveStatus(200))
		Eventually(func() bool { return w.Status().Ready }).Should(BeTrue(), told(w))

		By("and what ended meanwhile stays ended after a restart")
		w.KillServe()
		w.Start()
		Expect([]string{w.Phase("a")(), w.Phase("b")(), w.Phase("c")()}).To(Equal([]string{"Expired DeadlinePassed", "Revoked", "Live"}))
		staysClosed(w, "t")
		staysClosed(w, "r")
	})

	It("closes what is open until there is room again, and what was done is on record", func() {
		w := testbed.New()
		w.Write("routes.yaml", testbed.Route{Name: "r"}.YAML())
		fill, free := smallDisk(w)
		w.Start()
		w.Activate(testbed.Activation{Name: "a", Routes: []string{"r"}, Duration: "10m"})
		before := w.Activation("a").Status.Deadline.Time
		stream := w.H1().Events("events", testbed.Host("r"), "/api/stream", w.Token())
		prefix := "/api/" + w.Unique()
		load := w.Load(testbed.Host("r"), prefix, w.Token(), 8, 500, 1_000_000)
		fill()
		Eventually(w.Phase("a")).Should(Equal("Pending AuditFailing"), told(w))
		Eventually(stream.Done()).Should(BeClosed())
		staysClosed(w, "r")
		Expect(told(w)()).To(line("nothing can be opened", "audit log"))
		free()
		w.AwaitPhase("a", "Live")
		Expect(w.H1().Get(testbed.Host("r"), "/api/x", w.Token())).To(haveStatus(200))
		Expect(w.Activation("a").Status.Deadline.Time).To(Equal(before))
		answers := load.Stop()
		accounted(w, prefix, answers)
		sound(w)
	})

	It("ends an Envoy without a control plane, which could not be recorded", func() {
		w := testbed.New()
		w.Write("routes.yaml", testbed.Route{Name: "r"}.YAML())
		fill, free := smallDisk(w)
		w.Start()
		w.Activate(testbed.Activation{Name: "a", Routes: []string{"r"}, Duration: "10m"})
		w.KillServe()
		Expect(w.H1().Get(testbed.Host("r"), "/api/x", w.Token())).To(haveStatus(200))
		fill()
		Eventually(w.H1().Status(testbed.Host("r"), "/api/x", w.Token())).Should(BeZero(), "nobody listens any more")
		free()
		w.Start()
		w.AwaitPhase("a", "Live")
		Eventually(func() int { return len(w.Logged(audit.TypeEnd, "/api/x")["/api/x"]) }).ShouldNot(BeZero())
		sound(w)
	})

	It("at a start opens nothing either, and what was open stays so", func() {
		w := degrading()
		w.Write("routes.yaml", testbed.Route{Name: "r"}.YAML(), testbed.Route{Name: "s"}.YAML())
		fill, free := smallDisk(w)
		w.Start()
		deadline := w.Activate(testbed.Activation{Name: "a", Routes: []string{"r"}, Duration: "6s"})
		stop := probes(w, testbed.Host("r"), "/api/x", w.Token())
		w.KillServe()
		fill()
		w.Write("b.yaml", testbed.Activation{Name: "b", Routes: []string{"s"}, Duration: "10m"}.YAML())
		w.Spawn()
		Eventually(told(w)).Should(line("nothing can be opened"), "got %s", w.Log())
		staysClosed(w, "s")
		testbed.WaitUntil(deadline.Add(100 * time.Millisecond))
		closesAt("deadline, started on a full disk", stop(deadline), deadline)
		free()
		w.AwaitPhase("b", "Live")
	})
})

// immutable makes all below a directory, and the directory, unwritable even for
// root, or writable again. It stands for a file system that the kernel has
// remounted read-only, which nobody can do while files on it are open for
// writing.
func immutable(dir string, on bool) {
	GinkgoHelper()
	Expect(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() && !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		const immutableFlag = 0x10 // FS_IMMUTABLE_FL of linux/fs.h
		if flags &^= immutableFlag; on {
			flags |= immutableFlag
		}
		return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags))
	})).To(Succeed())
}

var _ = Describe("A disk that has become read-only", func() {
	It("closes what is open until it can be written again, and says so", func() {
		w, _ := faulty("10m")
		deadline := w.Deadline("a")
		DeferCleanup(immutable, w.Data, false)
		immutable(w.Data, true)
		Expect(w.H1().Get(testbed.Host("dormant"), "/api/x", w.Token())).To(haveStatus(404)) // something to record
		Eventually(w.Phase("a")).Should(Equal("Pending AuditFailing"), told(w))
		staysClosed(w, "open")
		w.Write("b.yaml", testbed.Activation{Name: "b", Routes: []string{"dormant"}, Duration: "10m"}.YAML())
		Eventually(told(w)).Should(line("nothing can be opened"))
		Expect(w.Status().Ready).To(BeFalse())
		staysClosed(w, "dormant")
		immutable(w.Data, false)
		w.AwaitPhase("a", "Live")
		w.AwaitPhase("b", "Live")
		Expect(w.Deadline("a")).To(BeTemporally("==", deadline))
		Eventually(w.H1().Status(testbed.Host("open"), "/api/x", w.Token())).Should(Equal(200))
		Eventually(func() bool { return w.Status().Ready }).Should(BeTrue(), told(w))
		sound(w)
	})

	It("at a start lets nothing open, says why, and does not hurt the start after it", func() {
		w := testbed.New()
		w.Write("routes.yaml", testbed.Route{Name: "r"}.YAML())
		smallDisk(w)
		w.Start()
		deadline := w.Activate(testbed.Activation{Name: "a", Routes: []string{"r"}, Duration: "10m"})
		w.StopServe()
		// Its Envoy may take a moment to end.
		Eventually(syscall.Mount).WithArguments("", w.Data, "", uintptr(syscall.MS_REMOUNT|syscall.MS_RDONLY), "").Should(Succeed())
		said := refusesToStart(w, "--config", w.Config, "--data-dir", w.Data, "--envoy", testbed.EnvoyPath())
		Expect(said).To(And(ContainSubstring("read-only file system"), ContainSubstring(w.Data)))
		Expect(syscall.Mount("", w.Data, "", syscall.MS_REMOUNT, "")).To(Succeed())
		w.Start()
		w.AwaitPhase("a", "Live")
		Expect(w.Deadline("a")).To(BeTemporally("==", deadline))
	})
})
