//go:build !layer

package main

// local_ui_browser_test.go drives a headless Chromium by its DevTools protocol, over a pipe: messages are
// JSON, and end with a zero byte.
//
// https://chromedevtools.github.io/devtools-protocol/

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
)

// browser is a Chromium.
type browser struct {
	out *os.File

	mu      sync.Mutex // guards the following
	lastID  int
	waiting map[int]chan devToolsMessage
	ended   bool
}

// devToolsMessage is a call, or what comes back.
type devToolsMessage struct {
	ID        int             `json:"id,omitempty"`
	SessionID string          `json:"sessionId,omitempty"`
	Method    string          `json:"method,omitempty"`
	Params    any             `json:"params,omitempty"`
	Result    json.RawMessage `json:"result,omitempty"`
	Error     json.RawMessage `json:"error,omitempty"`
}

// tab is a page in the browser, with cookies of its own.
type tab struct {
	testing.TB
	browser *browser
	session string
}

// startBrowser starts a Chromium, which ends with the test.
func startBrowser(t testing.TB) *browser {
	t.Helper()
	program := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		found, err := exec.LookPath(name)
		if err == nil {
			program = found
			break
		}
	}
	if program == "" {
		unavailable(t, "chromium")
	}
	theirIn, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	in, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	// no sandbox: as root, and in a container, there is none
	cmd := exec.Command(program, "--headless=new", "--no-sandbox", "--remote-debugging-pipe",
		"--user-data-dir="+t.TempDir(), "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage",
		"--disable-background-networking", "--disable-component-update", "--disable-sync",
		"--hide-scrollbars", "about:blank")
	cmd.ExtraFiles = []*os.File{theirIn, theirOut}
	err = cmd.Start()
	theirIn.Close()
	theirOut.Close()
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{out: out, waiting: map[int]chan devToolsMessage{}}
	var wg sync.WaitGroup
	wg.Go(func() { b.read(in) })
	t.Cleanup(func() {
		b.call("", "Browser.close", nil)
		out.Close()
		cmd.Wait()
		wg.Wait()
		in.Close()
	})
	return b
}

// read takes what the browser says, until it ends.
func (b *browser) read(in *os.File) {
	lines := bufio.NewReaderSize(in, 1<<20)
	for {
		text, err := lines.ReadBytes(0)
		if err != nil {
			break
		}
		var m devToolsMessage
		json.Unmarshal(bytes.TrimSuffix(text, []byte{0}), &m)
		b.mu.Lock()
		if b.waiting[m.ID] != nil {
			b.waiting[m.ID] <- m
			delete(b.waiting, m.ID)
		}
		b.mu.Unlock()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	for _, answer := range b.waiting {
		close(answer)
	}
	b.waiting = nil
}

// call calls a method and waits for its result.
func (b *browser) call(session, method string, params any) (json.RawMessage, error) {
	answer := make(chan devToolsMessage, 1)
	b.mu.Lock()
	if b.ended {
		b.mu.Unlock()
		return nil, fmt.Errorf("%s: the browser has ended", method)
	}
	b.lastID++
	m := devToolsMessage{ID: b.lastID, SessionID: session, Method: method, Params: params}
	b.waiting[m.ID] = answer
	text, err := json.Marshal(m)
	if err == nil {
		_, err = b.out.Write(append(text, 0))
	}
	b.mu.Unlock()
	if err != nil {
		return nil, err
	}
	got, ok := <-answer
	if !ok || got.Error != nil {
		return nil, fmt.Errorf("%s: %s", method, got.Error)
	}
	return got.Result, nil
}

// open opens a tab of that size, at an address.
func (b *browser) open(t testing.TB, width, height int, url string) *tab {
	t.Helper()
	p := &tab{TB: t, browser: b}
	var made struct{ BrowserContextID, TargetID, SessionID string }
	p.call("Target.createBrowserContext", nil, &made)
	p.call("Target.createTarget",
		map[string]any{"url": "about:blank", "browserContextId": made.BrowserContextID}, &made)
	p.call("Target.attachToTarget", map[string]any{"targetId": made.TargetID, "flatten": true}, &made)
	p.session = made.SessionID
	t.Cleanup(func() {
		b.call("", "Target.disposeBrowserContext", map[string]any{"browserContextId": made.BrowserContextID})
	})
	p.resize(width, height)
	p.navigate(url)
	return p
}

// call calls a method of the tab.
func (p *tab) call(method string, params, result any) {
	p.Helper()
	text, err := p.browser.call(p.session, method, params)
	if err != nil {
		p.Fatal(err)
	}
	if result != nil {
		json.Unmarshal(text, result)
	}
}

func (p *tab) resize(width, height int) {
	p.Helper()
	p.call("Emulation.setDeviceMetricsOverride", map[string]any{
		"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}, nil)
}

// prefer sets what the reader prefers: prefers-color-scheme, say.
func (p *tab) prefer(name, value string) {
	p.Helper()
	p.call("Emulation.setEmulatedMedia",
		map[string]any{"features": []any{map[string]any{"name": name, "value": value}}}, nil)
}

// navigate goes to an address, and waits until what is there has been loaded.
func (p *tab) navigate(url string) {
	p.Helper()
	p.call("Page.enable", nil, nil)
	p.call("Page.navigate", map[string]any{"url": url}, nil)
	p.eval(`document.readyState === "complete" || new Promise(done => addEventListener("load", done))`, nil)
}

// eval evaluates a script, and the promise that it gives.
func (p *tab) eval(script string, result any) {
	p.Helper()
	var got struct {
		Result struct {
			Value json.RawMessage
		}
		ExceptionDetails json.RawMessage
	}
	p.call("Runtime.evaluate", map[string]any{
		"expression": script, "awaitPromise": true, "returnByValue": true, "timeout": 300_000}, &got)
	if got.ExceptionDetails != nil {
		p.Fatalf("%s: %s", script, got.ExceptionDetails)
	}
	if result != nil {
		json.Unmarshal(got.Result.Value, result)
	}
}

// untilScript waits until a condition holds. It looks whenever the page changes, and gives up after five
// minutes with the page's text.
const untilScript = `new Promise((done) => {
	const look = () => {
		let holds = false;
		try { holds = %s; } catch {}
		if (!holds) return;
		observer.disconnect();
		clearTimeout(late);
		done("");
	};
	const observer = new MutationObserver(look);
	const late = setTimeout(() => done(document.body.innerText.slice(0, 2000)), 300_000);
	observer.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
	look();
})`

// until waits until a condition holds in the page.
func (p *tab) until(condition string) {
	p.Helper()
	text := ""
	p.eval(fmt.Sprintf(untilScript, condition), &text)
	if text != "" {
		p.Fatalf("never: %s; the page:\n%s", condition, text)
	}
}

// sees waits until an element has that text.
func (p *tab) sees(selector, text string) {
	p.Helper()
	p.until(fmt.Sprintf(
		`[...document.querySelectorAll(%q)].some(e => e.textContent.includes(%s))`, selector, mustJSON(text)))
}

// click clicks the first element of a selector that has that text.
func (p *tab) click(selector, text string) {
	p.Helper()
	p.sees(selector, text)
	p.eval(fmt.Sprintf(
		`[...document.querySelectorAll(%q)].find(e => e.textContent.includes(%s)).click()`,
		selector, mustJSON(text)), nil)
}

// press presses keys, one after the other: a letter, or the name of a key.
func (p *tab) press(keys ...string) {
	p.Helper()
	for _, key := range keys {
		down := map[string]any{"type": "keyDown", "key": key}
		switch {
		case key == "Enter":
			down["text"] = "\r"
			down["code"] = key
			down["windowsVirtualKeyCode"] = 13
		case key == "Tab":
			down["code"] = key
			down["windowsVirtualKeyCode"] = 9
		case key == "Escape":
			down["code"] = key
			down["windowsVirtualKeyCode"] = 27
		case len(key) == 1:
			down["text"] = key
		}
		p.call("Input.dispatchKeyEvent", down, nil)
		p.call("Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": key}, nil)
	}
}

// write writes into what has the focus, as if it were pasted.
func (p *tab) write(text string) {
	p.Helper()
	p.call("Input.insertText", map[string]any{"text": text}, nil)
}

// picture saves a picture of the tab.
func (p *tab) picture(file string) {
	p.Helper()
	var got struct{ Data string }
	p.eval(`new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))`, nil)
	p.call("Page.captureScreenshot", map[string]any{"format": "png", "optimizeForSpeed": false}, &got)
	image, err := base64.StdEncoding.DecodeString(got.Data)
	if err == nil {
		err = os.WriteFile(file, image, 0o600)
	}
	if err != nil {
		p.Fatal(err)
	}
}
