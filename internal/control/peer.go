package control

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"os/user"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Peer is a caller, as the kernel saw it connect.
type Peer struct {
	UID, GID uint32
	PID      int32
	// User is the name of UID. Empty if it has none.
	User string
	// Login is the uid that the session was logged in as, which sudo and su do not
	// change: two who share root are told apart by it. Empty where sessions have none.
	Login string
}

// String is how a caller is recorded: unix:user=root,uid=0,login=1000.
func (p Peer) String() string {
	s := fmt.Sprintf("unix:uid=%d", p.UID)
	if p.User != "" {
		s = fmt.Sprintf("unix:user=%s,uid=%d", p.User, p.UID)
	}
	if p.Login != "" && p.Login != strconv.FormatUint(uint64(p.UID), 10) {
		s += ",login=" + p.Login
	}
	return s
}

// loginOf is the audit login uid of a process, "" if it has none.
func loginOf(pid int32) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/loginuid", pid))
	if err != nil {
		return ""
	}
	login, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	if err != nil || login == math.MaxUint32 { // nobody has logged in
		return ""
	}
	return strconv.FormatUint(login, 10)
}

// peerOf asks the kernel who is at the other end: for a server who connected,
// for a client who listens.
func peerOf(c net.Conn) (Peer, error) {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return Peer{}, errors.New("not a unix socket")
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return Peer{}, err
	}
	if credErr != nil {
		return Peer{}, fmt.Errorf("SO_PEERCRED: %w", credErr)
	}
	return Peer{UID: cred.Uid, GID: cred.Gid, PID: cred.Pid, Login: loginOf(cred.Pid)}, nil
}

// names finds user names, and remembers them.
type names struct {
	lookup func(uid string) (*user.User, error)
	// wait bounds a lookup. Names may come from a directory service, and the day
	// this is needed may be the day that one is down.
	wait  time.Duration
	mu    sync.Mutex
	known map[uint32]string
}

func newNames() *names {
	return &names{lookup: user.LookupId, wait: 500 * time.Millisecond, known: map[uint32]string{}}
}

// of is the name of uid, or "" if it has none or it cannot be had in time.
func (n *names) of(ctx context.Context, uid uint32) string {
	n.mu.Lock()
	name, ok := n.known[uid]
	n.mu.Unlock()
	if ok {
		return name
	}
	found := make(chan string, 1)
	go func() {
		name := ""
		if u, err := n.lookup(strconv.FormatUint(uint64(uid), 10)); err == nil {
			name = plainName(u.Username)
			n.mu.Lock()
			n.known[uid] = name
			n.mu.Unlock()
		}
		found <- name
	}()
	t := time.NewTimer(n.wait)
	defer t.Stop()
	select {
	case name := <-found:
		return name
	case <-t.C:
	case <-ctx.Done():
	}
	return ""
}

// plainName drops a name that could be read as more than a name in the record.
func plainName(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == ',' || r == '=' || r > '~' }) {
		return ""
	}
	return s
}
