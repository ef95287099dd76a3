package source

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// sysStat fills in what tells one version of a file from another.
func sysStat(s *stat, info fs.FileInfo) {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.dev, s.ino, s.links = uint64(st.Dev), st.Ino, uint64(st.Nlink)
		s.changed, s.uid = st.Ctim.Nano(), st.Uid
	}
}

// lease asks the kernel to keep writers away while f is read: they wait until f
// is closed. held is false where there are no leases (a network file system, a
// file of another user). err is errBusy if a writer has the file open now, so
// that what is in it may be half of what will be.
func lease(f *os.File) (held bool, err error) {
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	if errors.Is(err, unix.EAGAIN) {
		return false, errBusy
	}
	return err == nil, nil
}

const openFlags = os.O_RDONLY | unix.O_NONBLOCK | unix.O_CLOEXEC
