package sink

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestAReceiverSaysByHTTPWhetherAndWhenToComeAgain(t *testing.T) {
	now := time.Date(2026, 11, 26, 2, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		code    int
		after   string
		refused bool
		later   time.Duration
		says    string
	}{
		"it is broken":         {500, "", false, 0, "the answer was 500: sorry, I am broken"},
		"it is busy":           {429, "7", false, 7 * time.Second, ""},
		"it is busy until":     {503, now.Add(time.Minute).Format(http.TimeFormat), false, time.Minute, ""},
		"it was busy until":    {503, now.Add(-time.Minute).Format(http.TimeFormat), false, 0, ""},
		"nonsense":             {503, "soon", false, 0, ""},
		"it is gone":           {410, "", false, latest, "gone for good: remove the sink, or correct its URL"},
		"it wants credentials": {401, "", false, 0, ""},
		"it does not like it":  {400, "", true, 0, ""},
		"it is too long":       {413, "", true, 0, ""},
		"it moved":             {307, "", false, 0, "the answer was 307"},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if c.after != "" {
				w.Header().Set("Retry-After", c.after)
			}
			w.Header().Set("Location", "http://127.0.0.1:1/")
			http.Error(w, "sorry,\n I am\x1b broken", c.code)
		}))
		client := newClient(s.URL+"/secret", "", func() time.Time { return now })
		_, _, err := client.post(t.Context(), http.Header{}, nil)
		if err == nil || isRefused(err) != c.refused || laterOf(err) != c.later || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, refused %v, later %v", name, err, isRefused(err), laterOf(err))
		}
		if err != nil && (strings.Contains(err.Error(), "secret") || strings.ContainsAny(err.Error(), "\x1b\n")) {
			t.Errorf("%s: %q", name, err)
		}
		s.Close()
		if _, _, err := client.post(t.Context(), http.Header{}, nil); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s, away: %v", name, err)
		}
	}
}

func TestWhatCannotBeInAHeaderIsEncoded(t *testing.T) {
	for in, want := range map[string]string{
		"plain/7": "plain/7", "a b": "a%20b", `"x"%`: "%22x%22%25", "\u20ac\r\n": "%E2%82%AC%0D%0A",
	} {
		if got := headerValue(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestASecretIsNeverInAnError(t *testing.T) {
	for _, s := range []string{"whsec_", "whsec_c2hvcnQ=", "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "whsec_!!!notbase64"} {
		if _, err := parseSecret(s); err == nil || strings.Contains(err.Error(), s[6:]) && len(s) > 6 {
			t.Errorf("%q: %v", s, err)
		}
	}
}
