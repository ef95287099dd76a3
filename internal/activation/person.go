package activation

import "strings"

// SamePerson reports whether two identities on record may be one person. If it is
// not sure it says so.
//
// Those of an API server are one if they are the same word. Those of a host (of the
// control socket, unix:user=alice,uid=1000,login=1000, and of the owner of a
// manifest's file, manifest:FILE,uid=0) are one if their login uids are, which sudo
// does not change; if one has none, if their uids are.
func SamePerson(a, b string) bool {
	if a == b {
		return true
	}
	p, q := localPerson(a), localPerson(b)
	switch {
	case p.uid == "" || q.uid == "":
		return false
	case p.login != "" && q.login != "":
		return p.login == q.login
	}
	return p.uid == q.uid || p.uid == q.login || q.uid == p.login
}

// local is somebody of this host.
type local struct{ uid, login string }

func localPerson(identity string) (out local) {
	scheme, rest, _ := strings.Cut(identity, ":")
	switch scheme {
	case "manifest": // a file's name may have anything in it
		if i := strings.LastIndex(rest, ",uid="); i >= 0 {
			out.uid = rest[i+len(",uid="):]
		}
	case "unix":
		for _, field := range strings.Split(rest, ",") {
			switch k, v, _ := strings.Cut(field, "="); k {
			case "uid":
				out.uid = v
			case "login":
				out.login = v
			}
		}
	}
	return out
}
