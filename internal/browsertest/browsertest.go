// Package browsertest opens a page in a headless Chromium, so that a test sees what a
// reader would. It is for files that load nothing.
package browsertest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// Page is a file in a browser.
type Page struct {
	t   testing.TB
	ctx context.Context

	mu       sync.Mutex
	said     *sync.Cond
	messages []string
	requests []string
	ended    bool // no message comes any more
}

// Open opens an HTML file, at a fragment of its address if that is not empty, in a
// browser and profile of its own, both gone at the test's end.
func Open(t testing.TB, path, fragment string, dark bool) *Page {
	t.Helper()
	program := find(t)
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(program), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1280, 900),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	allocator, free := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(free)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	p := &Page{t: t, ctx: ctx}
	p.said = sync.NewCond(&p.mu)
	p.listen()
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	if _, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	}); err != nil {
		t.Fatal(err)
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	address := url.URL{Scheme: "file", Path: absolute, Fragment: fragment}
	p.do(chromedp.Navigate(address.String()))
	return p
}

// find finds the browser; a test that needs it fails without.
func find(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("no Chromium; `make setup-test` installs it")
	return ""
}

// listen gathers what the page writes to the console, exceptions that nobody caught
// among it, and what it asks the network for.
func (p *Page) listen() {
	messages := chromedp.Console(p.ctx)
	requests := chromedp.Events(p.ctx, network.RequestWillBeSent)
	var done sync.WaitGroup
	done.Go(func() {
		for m, err := range messages {
			if err != nil {
				break
			}
			p.mu.Lock()
			p.messages = append(p.messages, m.String())
			p.said.Broadcast()
			p.mu.Unlock()
		}
		p.mu.Lock()
		p.ended = true
		p.said.Broadcast()
		p.mu.Unlock()
	})
	done.Go(func() {
		for r, err := range requests {
			if err != nil {
				return
			}
			p.mu.Lock()
			p.requests = append(p.requests, r.Request.URL)
			p.mu.Unlock()
		}
	})
	p.t.Cleanup(done.Wait)
}

func (p *Page) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, steps...); err != nil {
		p.t.Fatal(err)
	}
}

// last is what Messages has the page say, behind all that it said by itself.
const last = "browsertest: that is all"

// Messages returns what the page wrote to the console until now.
func (p *Page) Messages() []string {
	p.t.Helper()
	Eval[chromedp.Void](p, fmt.Sprintf("console.debug(%q)", last))
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		at := slices.IndexFunc(p.messages, func(m string) bool { return strings.Contains(m, last) })
		if at >= 0 {
			said := slices.Clone(p.messages[:at])
			p.messages = slices.Delete(p.messages, at, at+1)
			return said
		}
		if p.ended {
			p.t.Fatal("the browser ended")
		}
		p.said.Wait()
	}
}

// Requests returns the addresses that the page asked for, its own among them.
func (p *Page) Requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.requests)
}

// Press presses ArrowRight on an element, as a reader does.
func (p *Page) Press(selector string, times int) {
	p.t.Helper()
	p.do(chromedp.Focus(chromedp.CSS(selector)))
	for range times {
		p.do(chromedp.KeyEvent(kb.ArrowRight))
	}
}

// Click clicks on an element.
func (p *Page) Click(selector string) {
	p.t.Helper()
	p.do(chromedp.Click(chromedp.CSS(selector)))
}

// Screenshot writes a picture of the whole page to a PNG file.
func (p *Page) Screenshot(path string) {
	p.t.Helper()
	png, err := chromedp.Run(p.ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(path, png, 0o644)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// Eval evaluates a JavaScript expression in the page.
func Eval[T any](p *Page, expression string) T {
	p.t.Helper()
	v, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return v
}
