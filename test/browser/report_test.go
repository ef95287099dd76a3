// Package browser looks at pages of `breakglass report` in a real browser: that they
// ask for nothing, run nothing, and can be read: in light and dark, on a phone, in
// print, and by who does not see them.
package browser

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// pages are those that the tests of internal/report compare with what they make.
var pages = filepath.Join("..", "..", "internal", "report", "testdata")

// Screens on which each page is looked at.
var screens = []struct {
	name          string
	width, height int64
	scheme        string
}{
	{"light", 1280, 900, "light"},
	{"dark", 1280, 900, "dark"},
	{"phone", 390, 844, "light"},
	{"phone-dark", 390, 844, "dark"},
}

// tab is one tab of a browser, and what it complained of or asked for.
type tab struct {
	context.Context
	mu                   sync.Mutex
	complaints, requests []string
}

func open(t *testing.T) *tab {
	t.Helper()
	path := os.Getenv("BREAKGLASS_CHROMIUM")
	if path == "" {
		t.Fatal("BREAKGLASS_CHROMIUM does not name a browser: run `make test-report-browser`")
	}
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), chromedp.ExecPath(path), chromedp.Flag("headless", true), chromedp.Flag("hide-scrollbars", true), chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()))
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &tab{Context: ctx}
	if err := chromedp.Listen(ctx, b.note); err != nil {
		t.Fatal(err)
	}
	b.do(t, command(network.Enable, network.EnableParams{}), command(log.Enable, cdp.Empty{}), command(runtime.Enable, cdp.Empty{}))
	return b
}

func (b *tab) note(ev any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch ev := ev.(type) {
	case *runtime.EventExceptionThrown:
		b.complaints = append(b.complaints, ev.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		b.complaints = append(b.complaints, "console."+string(ev.Type))
	case *log.EventEntryAdded:
		b.complaints = append(b.complaints, ev.Entry.Text)
	case *network.EventRequestWillBeSent:
		b.requests = append(b.requests, ev.Request.URL)
	}
}

// command of the protocol, whose answer says nothing.
func command[P any](c cdp.Command[P, cdp.Empty], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, c, params)
		return err
	})
}

func (b *tab) do(t *testing.T, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	get(t, b, chromedp.Steps(actions...))
}

func get[T any](t *testing.T, b *tab, a chromedp.Action[T]) T {
	t.Helper()
	v, err := chromedp.Run(b, a)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (b *tab) open(t *testing.T, file string, width, height int64, scheme string) string {
	t.Helper()
	abs, err := filepath.Abs(file)
	if err != nil {
		t.Fatal(err)
	}
	url := "file://" + abs
	b.mu.Lock()
	b.complaints, b.requests = nil, nil
	b.mu.Unlock()
	b.do(t, command(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1, Mobile: width < 500}),
		command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}),
		chromedp.Navigate(url))
	return url
}

// all pages on all screens.
func all(t *testing.T, look func(t *testing.T, b *tab, url, name string)) {
	files, err := filepath.Glob(filepath.Join(pages, "*.html"))
	if err != nil || len(files) < 2 {
		t.Fatalf("pages %v, %v", files, err)
	}
	b := open(t)
	for _, file := range files {
		for _, s := range screens {
			name := strings.TrimSuffix(filepath.Base(file), ".html") + "-" + s.name
			t.Run(name, func(t *testing.T) {
				look(t, b, b.open(t, file, s.width, s.height, s.scheme), name)
			})
		}
	}
}

func TestThePageAsksForNothingAndComplainsOfNothing(t *testing.T) {
	all(t, func(t *testing.T, b *tab, url, name string) {
		scripts := get(t, b, chromedp.Evaluate[int](`document.querySelectorAll("script, iframe, object, embed, link, img, form, base, [style]").length`))
		handlers := get(t, b, chromedp.Evaluate[int](`[...document.querySelectorAll("*")].filter(e => [...e.attributes].some(a => /^on/i.test(a.name) || /^\s*(javascript|data):/i.test(a.value))).length`))
		if scripts+handlers > 0 {
			t.Errorf("%d elements that load or run something, %d with handlers", scripts, handlers)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.complaints) > 0 {
			t.Errorf("the browser complains: %q", b.complaints)
		}
		if len(b.requests) != 1 || b.requests[0] != url {
			t.Errorf("it asks for %q", b.requests)
		}
	})
}

func TestAllOfThePageCanBeSeen(t *testing.T) {
	all(t, func(t *testing.T, b *tab, _, name string) {
		wide := get(t, b, chromedp.Evaluate[float64](`document.scrollingElement.scrollWidth - window.innerWidth`))
		if wide > 0 {
			t.Errorf("the page is %v px wider than the screen", wide)
		}
		hidden := get(t, b, chromedp.Evaluate[[]string](`[...document.querySelectorAll("h1, h2, h3, .verdicts li, svg[role=img], svg[role=img] rect, caption, pre, td")].filter(e => { const r = e.getBoundingClientRect(); return r.width < 0.5 || r.height < 0.5 || getComputedStyle(e).visibility !== "visible" }).map(e => e.outerHTML.slice(0, 120))`))
		if len(hidden) > 0 {
			t.Errorf("not to be seen: %q", hidden)
		}
		text := get(t, b, chromedp.Evaluate[string](`document.body.innerText`))
		for _, want := range []string{"Incident INC-4711", "Deadline", "Who, why, scope", "<script>alert(1)</script>", "breakglass audit verify"} {
			if !strings.Contains(text, want) {
				t.Errorf("the page does not show %q", want)
			}
		}
	})
}

// violation of a rule of axe-core.
type violation struct {
	ID, Help string
	Nodes    []string
}

// axe-core: contrast, headings, names, tables, whatever WCAG asks for that a program
// can check.
func TestThePageIsAccessible(t *testing.T) {
	axe, err := os.ReadFile(os.Getenv("BREAKGLASS_AXE"))
	if err != nil {
		t.Fatalf("BREAKGLASS_AXE does not name axe.min.js: run `make test-report-browser`: %v", err)
	}
	all(t, func(t *testing.T, b *tab, _, name string) {
		b.do(t, chromedp.Evaluate[chromedp.Void](string(axe)+"; 0"))
		violations := get(t, b, chromedp.Evaluate[[]violation](`axe.run(document, {resultTypes: ["violations"]}).then(r => r.violations.map(v => ({id: v.id, help: v.help, nodes: v.nodes.slice(0, 3).map(n => n.html.slice(0, 160) + " " + n.failureSummary)})))`, chromedp.EvalAwaitPromise))
		for _, v := range violations {
			t.Errorf("%s: %s\n  %s", v.ID, v.Help, strings.Join(v.Nodes, "\n  "))
		}
	})
}

// Looked at by people, too: BREAKGLASS_SHOTS names a directory for pictures.
func TestThePageCanBePrinted(t *testing.T) {
	shots := os.Getenv("BREAKGLASS_SHOTS")
	all(t, func(t *testing.T, b *tab, _, name string) {
		shot := get(t, b, chromedp.FullScreenshot(100))
		yes := true
		pdf := get(t, b, func(ctx context.Context, t *chromedp.Target) ([]byte, error) {
			r, err := cdp.Call(ctx, t, page.PrintToPDF, page.PrintToPDFParams{PreferCSSPageSize: &yes, PrintBackground: &yes})
			return r.Data, err
		})
		if !strings.HasPrefix(string(pdf), "%PDF-") || strings.Count(string(pdf), "/Type /Page\n") < 2 && len(pdf) < 50_000 {
			t.Errorf("%d bytes of print", len(pdf))
		}
		if shots == "" {
			return
		}
		for file, content := range map[string][]byte{name + ".png": shot, name + ".pdf": pdf} {
			if err := os.WriteFile(filepath.Join(shots, file), content, 0o644); err != nil {
				t.Error(err)
			}
		}
	})
}
