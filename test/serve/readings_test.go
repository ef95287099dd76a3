//go:build envoy

package serve

import (
	"bytes"
	"path"
	"strings"
)

// readings are the paths that backends may see in a request target: those that
// decode it, once or more often, and clean it, and cut it off, in any order. The
// query is cut off first, because all of them agree on that. Not among them are
// backends for which another case, a slash, a dot or a space at the end make no
// difference: to Gateway API they do.
func readings(target string) map[string]bool {
	target, _, _ = strings.Cut(target, "?")
	all := map[string]bool{target: true}
	const most = 5000 // more would be a mistake in here
	for todo := []string{target}; len(todo) > 0 && len(all) < most; {
		p := todo[0]
		todo = todo[1:]
		for _, read := range readers {
			if q := read(p); !all[q] {
				all[q] = true
				todo = append(todo, q)
			}
		}
	}
	return all
}

var readers = []func(string) string{
	decode,
	// A slash at the end is another path, also to Gateway API's Exact.
	func(p string) string {
		clean := path.Clean(p)
		if strings.HasSuffix(p, "/") && clean != "/" {
			clean += "/"
		}
		return clean
	},
	func(p string) string { return strings.ReplaceAll(p, `\`, "/") },
	overlong.Replace,
	until(";"), until("?"), until("#"), until("\x00"), until("\r"), until("\n"),
	// Path parameters of each segment, RFC 3986 section 3.3.
	func(p string) string {
		segments := strings.Split(p, "/")
		for i, s := range segments {
			segments[i], _, _ = strings.Cut(s, ";")
		}
		return strings.Join(segments, "/")
	},
	// Absolute form, RFC 9112 section 3.2.2.
	func(p string) string {
		if _, rest, ok := strings.Cut(p, "://"); ok && !strings.HasPrefix(p, "/") {
			_, rest, _ = strings.Cut(rest, "/")
			return "/" + rest
		}
		return p
	},
}

// overlong decodes as old decoders of UTF-8 do: what would do with one byte may
// have two to six.
var overlong = func() *strings.Replacer {
	var pairs []string
	for _, c := range []byte(`./\;?#%`) {
		last := 0x80 | c&0x3f
		pairs = append(pairs, string([]byte{0xc0 | c>>6, last}), string(c))
		for n, lead := range []byte{0xe0, 0xf0, 0xf8, 0xfc} {
			long := append([]byte{lead}, bytes.Repeat([]byte{0x80}, n)...)
			pairs = append(pairs, string(append(long, 0x80|c>>6, last)), string(c))
		}
	}
	return strings.NewReplacer(pairs...)
}()

func until(end string) func(string) string {
	return func(p string) string {
		before, _, _ := strings.Cut(p, end)
		return before
	}
}

// decode undoes every escape that is one, as lenient decoders do.
func decode(p string) string {
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		if p[i] == '%' && i+2 < len(p) {
			if hi, lo := strings.IndexByte(hexDigits, p[i+1]|0x20), strings.IndexByte(hexDigits, p[i+2]|0x20); hi >= 0 && lo >= 0 {
				b.WriteByte(byte(hi<<4 | lo))
				i += 2
				continue
			}
		}
		b.WriteByte(p[i])
	}
	return b.String()
}

const hexDigits = "0123456789abcdef"

// inside reports whether a path belongs to the rule /api of the specs, and to no
// rule inside of it.
func inside(p string) bool {
	below := func(prefix string) bool { return p == prefix || strings.HasPrefix(p, prefix+"/") }
	return below("/api") && !below("/api/admin") && p != "/api/exact"
}
