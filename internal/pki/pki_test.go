package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"maps"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"
)

const serverName = "breakglass-controller.breakglass-system.svc"

func authority(t *testing.T, now time.Time) *Authority {
	t.Helper()
	a, changed, err := (*Authority)(nil).Rotate(now)
	if err != nil || !changed {
		t.Fatalf("a first authority: changed %t, error %v", changed, err)
	}
	return a
}

func issue(t *testing.T, a *Authority, s Subject, now time.Time) map[string][]byte {
	t.Helper()
	data, err := a.Issue(s, now)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// meet has a client and a server shake hands; it returns whom the server sees.
func meet(t *testing.T, server, client map[string][]byte, trusted *x509.CertPool, change func(*tls.Config)) (identity string, err error) {
	t.Helper()
	pair, err := KeyPair(server)
	if err != nil {
		t.Fatal(err)
	}
	config, err := ClientConfig(client, serverName)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(config)
	}
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	s := tls.Server(far, ServerConfig(func() (*tls.Certificate, *x509.CertPool) { return pair, trusted }))
	done := make(chan error, 1)
	go func() {
		done <- s.Handshake()
		_ = far.Close()
	}()
	c := tls.Client(near, config)
	clientErr := c.Handshake()
	if clientErr == nil {
		_, _ = c.Read(make([]byte, 1)) // with TLS 1.3 the server's word on our certificate comes now
	} else {
		_ = near.Close()
	}
	if err := errors.Join(<-done, clientErr); err != nil {
		return "", err
	}
	state := s.ConnectionState()
	if state.Version != tls.VersionTLS13 {
		t.Errorf("the version is %x", state.Version)
	}
	namespace, name, err := Identity(&state)
	return namespace + "/" + name, err
}

func TestAProxyIsWhomItsCertificateNames(t *testing.T) {
	now := time.Now()
	a := authority(t, now)
	got, err := meet(t, issue(t, a, Server(serverName), now), issue(t, a, Client("payments", "emergency.eu"), now), a.Pool(), nil)
	if err != nil || got != "payments/emergency.eu" {
		t.Errorf("identity %q, error %v", got, err)
	}
}

func TestAHandshakeIsRefused(t *testing.T) {
	now := time.Now()
	a, forged := authority(t, now), authority(t, now)
	server, client := Server(serverName), Client("payments", "emergency")
	good := issue(t, a, server, now)
	withOurs := func(data map[string][]byte) map[string][]byte { // who trusts our CA nevertheless
		out := maps.Clone(data)
		out[KeyTrusted] = a.Trusted()
		return out
	}
	for name, c := range map[string]struct {
		server, client map[string][]byte
		change         func(*tls.Config)
		want           string
	}{
		"a proxy of a forged CA":                     {good, withOurs(issue(t, forged, client, now)), nil, "certificate"},
		"a controller of a forged CA":                {issue(t, forged, server, now), issue(t, a, client, now), nil, "unknown authority"},
		"a proxy whose certificate has ended":        {good, issue(t, a, client, now.Add(-LeafLife-time.Minute)), nil, "expired"},
		"a controller whose certificate has ended":   {issue(t, a, server, now.Add(-LeafLife-time.Minute)), issue(t, a, client, now), nil, "expired"},
		"a proxy whose certificate is of the future": {good, issue(t, a, client, now.Add(backdate+time.Minute)), nil, "not yet valid"},
		"a controller of another name":               {issue(t, a, Server("breakglass-controller.elsewhere.svc"), now), issue(t, a, client, now), nil, "not " + serverName},
		"a proxy with the controller's certificate":  {good, issue(t, a, server, now), nil, "incompatible key usage"},
		"a controller with a proxy's certificate":    {issue(t, a, client, now), issue(t, a, client, now), nil, ""},
		"a proxy without a certificate":              {good, issue(t, a, client, now), func(c *tls.Config) { c.Certificates = nil }, "certificate"},
		"a proxy that speaks TLS 1.2":                {good, issue(t, a, client, now), func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }, "version"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := meet(t, c.server, c.client, a.Pool(), c.change)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("identity %q, error %v, want one with %q", got, err, c.want)
			}
		})
	}
}

func TestAnIdentityIsExactlyOneURIOfOurForm(t *testing.T) {
	now := time.Now()
	a := authority(t, now)
	good := "spiffe://breakglass.dev/gateway/payments/emergency"
	long := strings.Repeat("a", 64)
	for name, change := range map[string]func(*x509.Certificate){
		"no URI":                 func(c *x509.Certificate) { c.URIs = nil },
		"two URIs":               func(c *x509.Certificate) { c.URIs = append(c.URIs, parse(t, good+"2")) },
		"the same URI twice":     func(c *x509.Certificate) { c.URIs = append(c.URIs, c.URIs[0]) },
		"a DNS name besides":     func(c *x509.Certificate) { c.DNSNames = []string{serverName} },
		"an address besides":     func(c *x509.Certificate) { c.IPAddresses = []net.IP{{127, 0, 0, 1}} },
		"an email besides":       func(c *x509.Certificate) { c.EmailAddresses = []string{"a@b.example"} },
		"another trust domain":   uri(t, "spiffe://elsewhere.dev/gateway/payments/emergency"),
		"a port":                 uri(t, "spiffe://breakglass.dev:443/gateway/payments/emergency"),
		"another scheme":         uri(t, "https://breakglass.dev/gateway/payments/emergency"),
		"a user":                 uri(t, "spiffe://me@breakglass.dev/gateway/payments/emergency"),
		"a query":                uri(t, good+"?a=b"),
		"an empty query":         uri(t, good+"?"),
		"a fragment":             uri(t, good+"#a"),
		"another path":           uri(t, "spiffe://breakglass.dev/controller/payments/emergency"),
		"no name":                uri(t, "spiffe://breakglass.dev/gateway/payments"),
		"an empty name":          uri(t, "spiffe://breakglass.dev/gateway/payments/"),
		"an empty namespace":     uri(t, "spiffe://breakglass.dev/gateway//emergency"),
		"one part more":          uri(t, good+"/pod"),
		"a slash that is coded":  uri(t, "spiffe://breakglass.dev/gateway/payments/emergency%2Fpod"),
		"a letter that is coded": uri(t, "spiffe://breakglass.dev/gateway/payments/emergenc%79"),
		"capitals":               uri(t, "spiffe://breakglass.dev/gateway/Payments/emergency"),
		"dots in a namespace":    uri(t, "spiffe://breakglass.dev/gateway/pay.ments/emergency"),
		"a long namespace":       uri(t, "spiffe://breakglass.dev/gateway/"+long+"/emergency"),
		"a path that goes up":    uri(t, "spiffe://breakglass.dev/gateway/../emergency"),
	} {
		t.Run(name, func(t *testing.T) {
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			template := &x509.Certificate{
				SerialNumber: serial(), NotBefore: now.Add(-time.Minute), NotAfter: now.Add(time.Hour),
				KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
				URIs: []*url.URL{parse(t, good)},
			}
			change(template)
			cert, err := sign(template, a.current.cert, key.Public(), a.current.key)
			if err != nil {
				t.Fatal(err)
			}
			private, err := encodeKey(key)
			if err != nil {
				t.Fatal(err)
			}
			data := map[string][]byte{KeyCertificate: encodeCertificate(cert), KeyPrivate: private, KeyTrusted: a.Trusted()}
			if got, err := meet(t, issue(t, a, Server(serverName), now), data, a.Pool(), nil); err == nil {
				t.Errorf("it is %q", got)
			}
		})
	}
}

func TestAControllerIsNoProxyAndAProxyIsNoController(t *testing.T) {
	now := time.Now()
	a := authority(t, now)
	seen := func(client Subject) *tls.ConnectionState {
		pair, err := KeyPair(issue(t, a, client, now))
		if err != nil {
			t.Fatal(err)
		}
		chains, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: a.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		if err != nil {
			t.Fatal(err)
		}
		return &tls.ConnectionState{HandshakeComplete: true, VerifiedChains: chains}
	}
	controller, proxy := seen(ControllerClient("breakglass-system", "breakglass-controller-0")), seen(Client("payments", "emergency"))
	if namespace, pod, err := ControllerIdentity(controller); err != nil || namespace != "breakglass-system" || pod != "breakglass-controller-0" {
		t.Errorf("a controller is %s/%s, error %v", namespace, pod, err)
	}
	if _, _, err := Identity(controller); err == nil {
		t.Error("a controller passes for a proxy")
	}
	if _, _, err := ControllerIdentity(proxy); err == nil {
		t.Error("a proxy passes for a controller")
	}
	if data := issue(t, a, Server(serverName), now); a.Fresh(data, AuditServer("breakglass-audit.breakglass-system.svc"), now) {
		t.Error("the controller's certificate is fresh for the audit log service")
	}
}

func parse(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func uri(t *testing.T, s string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.URIs = []*url.URL{parse(t, s)} }
}

func TestAConnectionThatWasNotVerifiedHasNoIdentity(t *testing.T) {
	now := time.Now()
	a := authority(t, now)
	pair, err := KeyPair(issue(t, a, Client("payments", "emergency"), now))
	if err != nil {
		t.Fatal(err)
	}
	for name, state := range map[string]*tls.ConnectionState{
		"none at all":                        nil,
		"a certificate that nobody verified": {HandshakeComplete: true, PeerCertificates: []*x509.Certificate{pair.Leaf}},
		"a handshake that is not over":       {VerifiedChains: [][]*x509.Certificate{{pair.Leaf, a.current.cert}}},
		"a certificate that is its own root": {HandshakeComplete: true, VerifiedChains: [][]*x509.Certificate{{pair.Leaf}}},
	} {
		if namespace, gateway, err := Identity(state); err == nil {
			t.Errorf("%s is %s/%s", name, namespace, gateway)
		}
	}
}

func TestALeafIsFreshForTwoThirdsOfItsLife(t *testing.T) {
	now := time.Now()
	a := authority(t, now)
	s := Client("payments", "emergency")
	data := issue(t, a, s, now)
	for after, want := range map[time.Duration]bool{0: true, 16*time.Hour - 2*time.Second: true, 16*time.Hour + 2*time.Second: false, 25 * time.Hour: false} {
		if got := a.Fresh(data, s, now.Add(after)); got != want {
			t.Errorf("after %v: fresh %t", after, got)
		}
	}
	if d := RenewAt(data).Sub(now.Add(16 * time.Hour)).Abs(); d > 2*time.Second {
		t.Errorf("it is renewed %v off", d)
	}
	for name, other := range map[string]Subject{"another Gateway": Client("payments", "other"), "a server": Server(serverName)} {
		if a.Fresh(data, other, now) {
			t.Errorf("a leaf is fresh for %s", name)
		}
	}
	for _, key := range []string{KeyCertificate, KeyPrivate, KeyTrusted} {
		broken := maps.Clone(data)
		broken[key] = []byte("-----BEGIN NOTHING-----")
		if a.Fresh(broken, s, now) {
			t.Errorf("it is fresh without %s", key)
		}
	}
	if other := authority(t, now); other.Fresh(data, s, now) {
		t.Error("a leaf of another CA is fresh")
	}
}

// rotate as the controller does: what was stored is what is read.
func rotate(t *testing.T, a *Authority, now time.Time, want bool) *Authority {
	t.Helper()
	out, changed, err := a.Rotate(now)
	if err != nil || changed != want {
		t.Fatalf("rotate: changed %t, want %t, error %v", changed, want, err)
	}
	data, err := out.Data()
	if err != nil {
		t.Fatal(err)
	}
	if out, err = ParseAuthority(data); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestACAIsReplacedWithoutAMomentInWhichSomebodyIsRefused(t *testing.T) {
	now := time.Now()
	begin := now.Add(-authorityLife * 2 / 3).Add(-time.Hour)
	old := rotate(t, authority(t, begin), begin, false)
	both := rotate(t, old, now, true)
	if again := rotate(t, both, now.Add(time.Hour), false); string(again.Trusted()) != string(both.Trusted()) {
		t.Error("whom to trust changes by itself")
	}
	server, client := Server(serverName), Client("payments", "emergency")
	if both.Fresh(issue(t, old, client, now), client, now) {
		t.Error("a leaf without the successor next to it is fresh: it would never be told")
	}
	if _, err := meet(t, issue(t, both, server, now), issue(t, old, client, now), both.Pool(), nil); err != nil {
		t.Errorf("who does not know the successor yet cannot connect: %v", err)
	}
	if spread < LeafLife {
		t.Errorf("a successor signs after %v, when a leaf may still be without it", spread)
	}
	rotate(t, both, now.Add(spread-time.Minute), false)
	// Two days later, seen from today: leaves that both sign now.
	later := rotate(t, both, now.Add(spread+time.Minute), true)
	if later.current.cert.Equal(both.current.cert) || later.next != nil {
		t.Fatal("the successor does not sign")
	}
	for name, pair := range map[string][2]map[string][]byte{
		"a renewed proxy, a controller that is not": {issue(t, both, server, now), issue(t, later, client, now)},
		"a renewed controller, a proxy that is not": {issue(t, later, server, now), issue(t, both, client, now)},
		"both renewed": {issue(t, later, server, now), issue(t, later, client, now)},
	} {
		for _, pool := range []*x509.CertPool{both.Pool(), later.Pool()} {
			if _, err := meet(t, pair[0], pair[1], pool, nil); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	last := rotate(t, later, begin.Add(authorityLife+time.Minute), true)
	if len(last.trusted) != 1 || !last.trusted[0].Equal(later.current.cert) {
		t.Errorf("%d CAs are trusted after the old one has ended", len(last.trusted))
	}
	data, err := later.Data()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(data[KeyPrivate]), "BEGIN") != 1 || data[keyNextPrivate] != nil {
		t.Error("the key of the old CA is kept")
	}
}

func TestACAThatHasEndedIsReplacedAtOnce(t *testing.T) {
	now := time.Now()
	old := authority(t, now.Add(-authorityLife))
	fresh := rotate(t, old, now, true)
	if len(fresh.trusted) != 1 || fresh.trusted[0].Equal(old.current.cert) {
		t.Error("the old CA is trusted")
	}
}

func TestADamagedAuthorityIsAnErrorThatTellsNoKey(t *testing.T) {
	now := time.Now()
	good, err := rotate(t, authority(t, now.Add(-authorityLife*3/4)), now, true).Data()
	if err != nil {
		t.Fatal(err)
	}
	other, err := authority(t, now).Data()
	if err != nil {
		t.Fatal(err)
	}
	for key := range good {
		for what, value := range map[string][]byte{"nothing": nil, "text": []byte("secret-text"), "half": good[key][:len(good[key])*2/3], "a key of another": other[KeyPrivate]} {
			data := maps.Clone(good)
			data[key] = value
			if _, err := ParseAuthority(data); err == nil {
				t.Errorf("%s is %s, and it is taken", key, what)
			} else if strings.Contains(err.Error(), "secret-text") || !strings.Contains(err.Error(), ".") {
				t.Errorf("%s is %s: %v", key, what, err)
			}
		}
	}
	leaf := issue(t, authority(t, now), Server(serverName), now)
	if _, err := ParseAuthority(leaf); err == nil {
		t.Error("a leaf is taken for a CA")
	}
}
