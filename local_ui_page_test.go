//go:build !layer

package main

// local_ui_page_test.go tests the inspector's page in a browser.

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pageRig is a local end with an inspector.
type pageRig struct {
	*localRig
	browser *browser
}

// newPageRig starts one for a case.
func newPageRig(t *testing.T, b *browser) *pageRig {
	t.Helper()
	r := &pageRig{localRig: newHistoryRig(t, localOptions{}), browser: b}
	err := r.local.inspect(uiFlag{on: true})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// open opens the page.
func (r *pageRig) open(width int) *tab {
	r.Helper()
	p := r.browser.open(r, width, 900, r.local.inspector.link())
	p.sees("#state", "live")
	return p
}

// run runs an event to its end.
func (r *pageRig) run(do any) {
	r.Helper()
	q := r.direct(do, r.context())
	r.reply(q)
	r.local.finish(q, overAnswered)
}

// httpTask is what an HTTP request makes of a task: an event of API Gateway.
func httpTask(do task, method, path string) map[string]any {
	return map[string]any{
		"Do": do.Do, "Text": do.Text, "Type": do.Type, "File": do.File, "Pieces": do.Pieces,
		"version": "2.0", "rawPath": path, "rawQueryString": "",
		"headers": map[string]string{"accept": "*/*"},
		"requestContext": map[string]any{
			"domainName": "api.example.com", "http": map[string]any{"method": method, "path": path}},
	}
}

// All cases share one browser.
func TestInspectorPage(t *testing.T) {
	t.Parallel()
	b := startBrowser(t)
	for _, tt := range []struct {
		name string
		test func(*pageRig)
	}{
		{name: "list and filter", test: testPageLists},
		{name: "details", test: testPageShowsDetails},
		{name: "stream", test: testPageShowsAStreamAsItComes},
		{name: "copy", test: testPageCopies},
		{name: "large event", test: testPageShowsLargeEvents},
		{name: "hostile text", test: testPageRunsNothingThatCameFromOutside},
		{name: "restart", test: testPageSaysThatItMustBeOpenedAnew},
		{name: "another page", test: testPageOfAnotherSite},
		{name: "dropped", test: testPageSaysWhatWasDropped},
		{name: "narrow", test: testPageIsNotWiderThanItsWindow},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(newPageRig(t, b)) })
	}
}

func testPageLists(r *pageRig) {
	p := r.open(1440)
	p.sees("#empty", "Nothing has come yet")
	r.run(httpTask(task{}, "GET", "/orders"))
	p.sees(".row .who", "GET /orders")
	p.sees(".row .chip", "ok")
	gate := r.newGate("gate")
	q := r.direct(task{Do: "wait", File: gate.file, Text: "x"}, r.context())
	f, err := os.OpenFile(gate.file, os.O_WRONLY, 0)
	if err != nil {
		r.Fatal(err)
	}
	p.sees("#row-2 .chip", "running")
	p.eval(`window.before = document.querySelector("#row-2 .took").textContent`, nil)
	p.until(`document.querySelector("#row-2 .took").textContent !== window.before`) // its time runs
	p.sees("#count", "2 invocations, 1 running")
	f.Close()
	r.reply(q)
	p.sees("#row-2 .chip", "ok")
	p.until(`document.querySelector(".row").id === "row-2"`) // the newest is the first
	r.run(task{Do: "error", Type: "Function.Broken", Text: `{"errorType":"Function.Broken"}`})
	p.sees("#row-3 .chip", "error")
	p.sees("#hour-figures", "errors1")
	p.sees("#news", "3 new invocations, 1 failed")
	const shown = `[...document.querySelectorAll(".row:not([hidden])")].map(e => e.id).join(" ")`
	p.press("/")
	p.write("orders get")
	p.until(shown + ` === "row-1"`)
	p.sees("#count", "1 of 3 invocations")
	p.eval(`document.getElementById("filter-text").value = ""`, nil)
	p.eval(`const o = document.getElementById("filter-outcome"); o.value = "error";
		o.dispatchEvent(new Event("input"))`, nil)
	p.until(shown + ` === "row-3"`)
}

func testPageShowsDetails(r *pageRig) {
	r.run(httpTask(task{Do: "print", Text: "\x1b[31mprinted\x1b[0m line\n"}, "GET", "/a"))
	r.run(task{Do: "error", Type: "Function.Broken",
		Text: `{"errorType":"TypeError","errorMessage":"x is not a function","trace":["TypeError: x","at ` +
			`index.js:3:7"]}`})
	r.run(task{Do: "text", Type: "application/octet-stream", Text: "\x00\x01binary"})
	r.run(map[string]any{
		"isBase64Encoded": true, "body": "eyJuIjoxMjM0NTY3ODkwMTIzNDU2Nzg5MH0=",
		"Records": []any{
			map[string]any{"body": `{"inner":1}`, "kinesis": map[string]any{"data": "aGVsbG8gdGhlcmU="}}},
	})
	p := r.open(1440)
	p.click(".row", "#1 ")
	p.sees(".printed pre", "printed line")
	p.sees(".times .legs", "in the handler")
	p.sees(".event .tree .key", `"rawPath"`)
	p.click(".event .ways button", "Text")
	p.sees(".event pre", `"rawPath": "/a"`)
	p.sees(".context dt", "request_id")
	p.click(".row", "#2 ")
	p.sees(".result .wrong", "TypeError: x is not a function")
	p.sees(".result .stack pre", "at index.js:3:7")
	p.click(".row", "#3 ")
	p.sees(".result pre", "00 01 62 69 6e 61 72 79")
	p.sees(".result pre", "..binary")
	p.click(".row", "#4 ")
	p.click(".event .ways button", "Tree")                    // the way that was chosen stays
	p.sees(".event .decoded .number", "12345678901234567890") // digit for digit
	p.sees(".event .decoded", `"inner": 1`)
	p.sees(".event .decoded pre", "hello there")
}

func testPageShowsAStreamAsItComes(r *pageRig) {
	gate := r.newGate("pieces")
	q := r.direct(task{
		Do: "stream", Type: "text/plain", File: gate.file, Pieces: []string{"first ", "second"}},
		r.context())
	p := r.open(1440)
	p.click(".row", "#1 ")
	p.sees(".pieces", "As it came: 1 piece")
	p.sees(".result pre", "first")
	gate.pass()
	p.sees(".pieces li:last-child .text", "second")
	gate.pass()
	r.reply(q)
	r.local.finish(q, overAnswered)
	p.sees(".result pre", "first second")
	p.until(`document.querySelectorAll(".times .mark").length >= 2`)
}

// It runs again, edits, compares and saves. It saves in the working directory, which all tests share: this
// one runs alone.
func TestInspectorPageByKeysAlone(t *testing.T) {
	r := newPageRig(t, startBrowser(t))
	r.run(map[string]any{"n": 1, "same": true})
	r.run(task{Text: "other"})
	r.Chdir(r.TempDir()) // where it saves
	p := r.open(1440)
	p.sees(".row", "#1 ")
	p.press("j", "j", "Enter")
	p.sees(".head h2", "#1")
	p.until(`document.activeElement.id === "details"`)
	p.press("r")
	p.sees(".head h2", "#3")
	p.sees(".compare", "both answers are the same")
	p.press("e")
	p.until(`document.querySelector("#edit[open]")`)
	p.until(`document.activeElement.id === "edit-text"`)
	p.eval(`document.getElementById("edit-text").select()`, nil)
	p.write("{")
	p.click("#edit button", "Run")
	p.sees("#edit-wrong", "not JSON")
	p.eval(`document.getElementById("edit-text").select()`, nil)
	p.write(`{"n": 12345678901234567890, "same": true}`)
	p.press("Tab", "Enter")
	p.sees(".head h2", "#4")
	p.sees(".compare td.gone", `"n": 1`)
	p.sees(".compare td.come", `"n": 12345678901234567890`)
	p.until(`!document.querySelector("dialog[open]")`)
	for i, file := range []string{"kept.json", "kept.json", "other.json"} {
		p.press("s")
		p.until(`document.querySelector("#save[open]")`)
		p.write(file)
		p.press("Enter")
		if i == 1 {
			p.sees("#save-wrong", "kept.json is there already")
			p.until(`!document.getElementById("save-over").hidden`)
			p.press("Escape")
			p.until(`!document.querySelector("dialog[open]")`)
			continue
		}
		p.sees("#toast", "saved as "+file)
	}
	kept, _ := os.ReadFile("kept.json")
	if string(kept) != "{\"n\": 12345678901234567890, \"same\": true}\n" {
		r.Errorf("saved %q", kept)
	}
	p.press("s")
	p.until(`document.querySelector("#save[open]")`)
	p.write("../elsewhere")
	p.press("Enter")
	p.sees("#save-wrong", "plain name")
	p.press("Escape")
	p.until(`!document.querySelector("dialog[open]")`)
	p.press("?")
	p.until(`document.querySelector("#keys[open]")`)
	p.press("Escape")
	p.until(`!document.querySelector("dialog[open]")`)
	p.press("Escape")
	p.until(`document.activeElement.id === "list"`)
}

func testPageCopies(r *pageRig) {
	r.run(httpTask(task{}, "GET", "/it's"))
	p := r.open(1440)
	p.eval(`Object.defineProperty(navigator, "clipboard", { configurable: true,
		value: { writeText: async (text) => { window.copied = text; } } })`, nil)
	p.click(".row", "#1 ")
	p.click(".actions button", "Copy as curl")
	p.sees("#toast", "copied")
	p.until(`window.copied.includes("https://api.example.com/it's'") || window.copied.includes("it'\\''s")`)
	p.eval(`navigator.clipboard.writeText = () => Promise.reject(new Error("no"))`, nil)
	p.click(".actions button", "Copy as aws")
	p.until(`document.querySelector("#copy[open]")`)
	p.until(`(e => e.selectionEnd - e.selectionStart === e.value.length && e.value.startsWith("aws lambda"))
		(document.getElementById("copy-text"))`)
}

// Of what is large only a part is in the page.
func testPageShowsLargeEvents(r *pageRig) {
	items := strings.Repeat(`{"id":9007199254740993,"name":"x"},`, 150_000)
	event := `{"Do":"","items":[` + items + `1e400],"long":"` + strings.Repeat("y", 900_000) + `"}`
	r.run([]byte(event))
	p := r.open(1440)
	p.click(".row", "#1 ")
	p.sees(".event .tree summary", "[ 150001 ]")
	p.click(".event .tree summary", "items")
	p.sees(".event .tree .key", "99")
	p.click(".event .more", "Show 100 more of 149901")
	p.sees(".event .tree .key", "199")
	p.click(".event .tree details details summary", "199")
	p.sees(".event .number", "9007199254740993")
	p.click(".event .more", "show all")
	p.click(".event .ways button", "Text")
	p.sees(".event pre", `"id": 9007199254740993`)
	p.click(".event .ways button", "Hex")
	p.sees(".event pre", "00000000  7b 22 44 6f")
	p.click(".result .ways button", "Raw")
	p.sees(".result .more", "Show more")
	p.press("r")
	p.sees(".compare", "both answers are the same")
	p.press("e")
	p.sees("#toast", "too large to be edited here")
	elements := 0
	p.eval(`document.querySelectorAll("*").length`, &elements)
	if elements > 5000 {
		r.Errorf("the page has %d elements", elements)
	}
}

// hostile are texts that are a script for whoever does not take them as text.
var hostile = []string{
	`<img src=x onerror="window.ran=1">`,
	`</pre></script><script>window.ran=1</script>`,
	`"><svg onload=window.ran=1>`,
	`javascript:window.ran=1`,
	`<iframe srcdoc="<script>parent.ran=1</script>"></iframe>`,
	`<style>*{display:none}</style>`,
}

func testPageRunsNothingThatCameFromOutside(r *pageRig) {
	text := strings.Join(hostile, " ")
	event := httpTask(task{Do: "text", Type: "text/html", Text: "<!doctype html>" + text}, "GET", "/"+text)
	for _, h := range hostile {
		event[h] = map[string]any{h: h, "body": h}
	}
	c := r.context()
	c.FunctionName = hostile[0]
	c.Handler = text
	q := r.direct(event, c)
	r.reply(q)
	r.local.finish(q, overAnswered)
	r.run(task{Do: "print", Text: text + "\n"})
	r.run(task{Do: "error", Type: "Function.X", Text: string(mustJSON(map[string]any{
		"errorType": text, "errorMessage": text, "stackTrace": hostile}))})
	r.run(task{Do: "stream", Type: "text/html", Pieces: hostile})
	r.run(task{Do: "error", Type: "Function.X", Text: `{"errorMessage":{"toString":1,"why":"odd"}}`})
	p := r.open(1440)
	p.click(".row", "#5 ")
	p.sees(".result .stack", `{"toString":1,"why":"odd"}`)
	for id := 1; id <= 4; id++ {
		p.click(".row", fmt.Sprintf("#%d ", id))
		p.sees(".head h2", fmt.Sprintf("#%d", id))
		p.until(`document.querySelector(".event .payload") && document.querySelector(".result section")`)
		for _, way := range []string{"Text", "Raw", "Hex", "Tree"} {
			p.eval(fmt.Sprintf(`[...document.querySelectorAll(".ways button")]
				.filter(e => e.textContent === %q).forEach(e => e.click())`, way), nil)
		}
		p.eval(`document.querySelectorAll("details").forEach(e => e.open = true)`, nil)
		checkNothingRan(p)
	}
	p.click(".row", "#1 ")
	p.click(".actions button", "Edit and run")
	p.until(`document.querySelector("#edit[open]")`)
	p.click("#edit button", "Run")
	p.sees(".compare", "both answers are the same")
	checkNothingRan(p)
	for _, part := range []string{"event", "answer"} {
		kind := ""
		p.eval(fmt.Sprintf(`fetch("/api/invocations/1/%s?key=%s").then(r =>
			r.headers.get("content-type") + ", " + r.headers.get("x-content-type-options"))`,
			part, r.local.inspector.key), &kind)
		if strings.Contains(kind, "html") || !strings.HasSuffix(kind, ", nosniff") {
			r.Errorf("%s is served as %s", part, kind)
		}
	}
	u := r.local.inspector
	p.navigate("http://127.0.0.1:" + u.port + "/api/invocations/1/event?key=" + u.key)
	checkNothingRan(p)
}

// checkNothingRan looks for scripts that ran, and for elements that no code of the page has made.
func checkNothingRan(p *tab) {
	p.Helper()
	var found struct {
		Ran      bool
		Elements []string
	}
	p.eval(`new Promise(done => requestAnimationFrame(() => setTimeout(() => done({
		Ran: window.ran !== undefined,
		Elements: [...document.querySelectorAll(
			"img, iframe, style, script:not([src]), svg[onload], [onerror], body a")].map(e => e.outerHTML),
	}))))`, &found)
	if found.Ran || len(found.Elements) > 0 {
		p.Errorf("a script ran: %v; these are in the page: %q", found.Ran, found.Elements)
	}
}

// Another inspector may come at the same port: it knows nothing of the cookie.
func testPageSaysThatItMustBeOpenedAnew(r *pageRig) {
	p := r.open(1440)
	address := "127.0.0.1:" + r.local.inspector.port
	r.local.inspector.close()
	p.sees("#state", "connection lost")
	err := r.local.inspect(uiFlag{on: true, address: address})
	if err != nil {
		r.Fatal(err)
	}
	p.sees("#state", "local was started again: open the new address")
	p.navigate(r.local.inspector.link())
	p.sees("#state", "live")
	r.run(task{})
	p.sees(".row", "#1 ")
	p.navigate(strings.Replace(r.local.inspector.link(), "token=", "token=x", 1))
	p.sees("#state", "live") // it has the cookie
}

// It is of the same site as any page of this machine, and runs nothing, and reads nothing.
func testPageOfAnotherSite(r *pageRig) {
	r.run(task{})
	p := r.open(1440)
	other := newPageRig(r.T, r.browser)
	p.navigate(other.local.inspector.link())
	p.sees("#state", "live")
	api := "http://127.0.0.1:" + r.local.inspector.port + "/api/"
	for _, call := range []string{
		`fetch("` + api + `invocations/1")`,
		`fetch("` + api +
			`again", {method: "POST", body: '{"id":1}', mode: "no-cors", credentials: "include"})`,
	} {
		outcome := ""
		p.eval(call+`.then(r => "it got " + r.type + " " + r.status, e => "refused")`, &outcome)
		if outcome != "refused" {
			r.Errorf("%s: %s", call, outcome)
		}
	}
	if n := len(r.local.history.list()); n != 1 {
		r.Errorf("there are %d invocations", n)
	}
}

func testPageSaysWhatWasDropped(r *pageRig) {
	r.local.history.most = 2
	for range 3 {
		r.run(task{})
	}
	p := r.open(1440)
	p.sees("#dropped", "1 earlier invocations were dropped")
	p.click(".row", "#2 ")
	p.sees(".event .tree", "Do")
	r.run(task{})
	p.sees("#dropped", "2 earlier invocations were dropped")
	p.sees(".head .gone", "not kept any more")
	p.sees(".event .tree", "Do") // what was read of it stays
	p.until(`document.querySelectorAll(".row").length === 2`)
}

// It does not scroll sideways, and one thing is seen at a time.
func testPageIsNotWiderThanItsWindow(r *pageRig) {
	r.run(httpTask(task{Text: strings.Repeat("x", 500)}, "GET", "/"+strings.Repeat("long", 50)))
	p := r.open(360)
	const fits = `document.documentElement.scrollWidth <= 360`
	p.sees(".row", "#1 ")
	p.until(fits)
	p.press("j", "Enter")
	p.sees(".head h2", "#1")
	p.until(`document.querySelector(".event .payload") && ` + fits)
	p.until(`!document.querySelector(".side").checkVisibility()`)
	p.press("r")
	p.sees(".compare", "both answers are the same")
	p.until(fits)
	p.press("Escape")
	p.until(`document.querySelector(".side").checkVisibility()`)
}

// pictureHandler is a shop's.
const pictureHandler = `
const items = [{ sku: "TEA-07", n: 3, price: 12.5 }, { sku: "CUP-01", n: 2, price: 9.9 }];
export const handler = async (event) => {
	const path = event.rawPath;
	if (event.detail) throw new TypeError("Cannot read properties of undefined (reading 'total')");
	if (!path) return { batchItemFailures: [] };
	console.log("price list of " + new Date().getFullYear() + ", 2 items");
	const total = event.queryStringParameters?.vat === "0" ? 57.3 : 68.19;
	return { statusCode: 200, headers: { "Content-Type": "application/json" },
		body: JSON.stringify({ order: path.split("/").at(-1), items, total }) };
};
`

// TEST_PICTURES is a directory for pictures of the page, to be looked at.
func TestInspectorPictures(t *testing.T) {
	directory := os.Getenv("TEST_PICTURES")
	if directory == "" {
		t.Skip("TEST_PICTURES is not set")
	}
	needs(t, "node")
	t.Chdir(t.TempDir())
	write(t, ".", map[string]string{"src/orders.mjs": pictureHandler})
	c, err := readCode("src/orders.handler")
	if err != nil {
		t.Fatal(err)
	}
	r := &pageRig{localRig: newTestLocal(t, localOptions{code: c}), browser: startBrowser(t)}
	r.local.keepHistory("alice")
	err = r.local.inspect(uiFlag{on: true})
	if err != nil {
		t.Fatal(err)
	}
	last := r.fillPage()
	for _, width := range []int{360, 1440} {
		for _, scheme := range []string{"light", "dark"} {
			p := r.open(width)
			p.prefer("prefers-color-scheme", scheme)
			name := filepath.Join(directory, fmt.Sprintf("inspector-%d-%s", width, scheme))
			p.sees(".row", fmt.Sprintf("#%d ", last))
			p.sees("#hour-figures", "p95")
			p.picture(name + "-list.png")
			for ago := range 4 {
				p.showInvocation(last - ago)
				p.picture(fmt.Sprintf("%s-%d.png", name, ago))
				p.eval(`document.querySelector("#details").scrollTop = 1e6; scrollTo(0, 1e6)`, nil)
				p.picture(fmt.Sprintf("%s-%d-below.png", name, ago))
				p.eval(`scrollTo(0, 0); innerWidth < 900 && document.querySelector(".back").click()`, nil)
			}
			p.press("e")
			p.until(`document.querySelector("dialog[open]")`)
			p.picture(name + "-edit.png")
		}
	}
}

// showInvocation opens one, and waits until it is there.
func (p *tab) showInvocation(id int) {
	p.Helper()
	p.click(fmt.Sprintf("#row-%d", id), "")
	p.sees(".head h2", fmt.Sprintf("#%d", id))
	p.until(`document.querySelector(".event .payload") && document.querySelector(".result section")`)
	p.until(`!document.querySelector(".compare section") || document.querySelector(".compare td")`)
}

// fillPage has what looks like an hour's work, and returns the last ID.
func (r *pageRig) fillPage() (last int) {
	r.Helper()
	now := time.Now()
	for i := range 140 {
		ended := now.Add(-time.Duration(3500-i*i/6) * time.Second)
		took := float64(12 + i*37%50 + i%9*i%9*20)
		f := facts{Function: "orders", Caller: "GET /orders", Outcome: "ok", Ms: took, Arrived: ended,
			Answered: ended, Done: ended, RequestID: fmt.Sprint(i), EventBytes: 812, AnswerBytes: 1420}
		if i%17 == 3 {
			f.Outcome = "error"
		}
		r.local.history.add(keptInvocation{Event: []byte("{}"), facts: f}, nil)
	}
	as := func(name string, event any) {
		c := r.context()
		c.FunctionName = name
		q := r.direct(event, c)
		r.reply(q)
		r.local.finish(q, overAnswered)
	}
	order := map[string]any{"orderId": "A-1042", "total": 68.19}
	record := map[string]any{
		"eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:orders-queue",
		"messageId": "0a1b", "body": string(mustJSON(order)),
	}
	get := httpTask(task{}, "GET", "/orders/A-1042")
	for _, name := range []string{"Do", "Text", "Type", "File", "Pieces"} {
		delete(get, name)
	}
	get["headers"] = map[string]string{"accept": "application/json", "x-dev": "alice"}
	get["queryStringParameters"] = map[string]string{"expand": "items"}
	get["body"] = "eyJub3RlIjoiZ2lmdCB3cmFwLCBwbGVhc2UifQ=="
	get["isBase64Encoded"] = true
	as("orders", map[string]any{"version": "0", "source": "aws.events", "detail-type": "Scheduled Event",
		"resources": []string{"arn:aws:events:eu-west-1:123456789012:rule/every-minute"}})
	as("mailer", map[string]any{"Records": []any{record, record, record}})
	as("invoices",
		map[string]any{"version": "0", "source": "shop", "detail-type": "Order Placed", "detail": order})
	as("orders", get)
	last = r.local.history.list()[0].ID
	get["queryStringParameters"] = map[string]string{"expand": "items", "vat": "0"}
	id, err := r.local.again(last, mustJSON(get))
	if err != nil {
		r.Fatal(err)
	}
	r.kept(id, func(i keptInvocation) bool { return !i.Done.IsZero() })
	return id
}
