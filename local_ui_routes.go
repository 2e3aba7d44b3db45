//go:build !layer

package main

// local_ui_routes.go says who may ask the inspector for what. A page of another site may send requests here
// from the developer's browser, and a name of its own may lead here. So a request must be for this host, come
// from this page, and carry the cookie that the address from the terminal has turned into. What invocations
// carry is sent as text, or as bytes, that no browser takes for a page.
//
// A browser sends the cookie to servers at other ports of this host too, which may be anybody's. So the
// cookie gets no more than the page's own files. For all else there is a key, which the page gets behind the
// # of its address, where no server sees it, and keeps where pages of other ports do not read it.

import (
	"bytes"
	"crypto/subtle"
	"embed"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
)

//go:embed local_ui.html local_ui.css local_ui.js local_ui_json.js local_ui_draw.js
var pageFiles embed.FS

const (
	maxAsked = 16 << 20         // bytes of what is posted: a 6 MB event as a string in JSON
	pageRead = 30 * time.Second // for a page to send that
	pageTake = time.Minute      // for a page to take an answer
)

// pageHeaders are those of every answer.
var pageHeaders = map[string]string{
	"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; " +
		"connect-src 'self'; img-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; " +
		"require-trusted-types-for 'script'; trusted-types 'none'",
	"X-Content-Type-Options":       "nosniff",
	"X-Frame-Options":              "DENY",
	"Referrer-Policy":              "no-referrer",
	"Cache-Control":                "no-store",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Cross-Origin-Opener-Policy":   "same-origin",
}

const keyHeader = "Live-Lambda-Key"

// cookieName tells several inspectors apart, for cookies know no ports.
func (u *uiServer) cookieName() string { return "live-lambda-" + u.port }

// turnedDown is why a request is refused, with the status of the answer.
type turnedDown struct {
	status int
	text   string
}

// notLetIn says what to do about a cookie that is not there, or was another inspector's.
const notLetIn = "this page shows events, and opens only with the address that live-lambda prints, once: " +
	"in a terminal type o into local for another one, or start it again"

// guard passes on only requests that are this page's own.
func (u *uiServer) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		for name, value := range pageHeaders {
			out.Header().Set(name, value)
		}
		if !u.enter() {
			http.Error(out, "live-lambda is ending: start it again", http.StatusServiceUnavailable)
			return
		}
		defer u.leave()
		refused := u.refuse(r)
		if refused != nil {
			http.Error(out, refused.text, refused.status)
			return
		}
		if r.URL.Path == "/" && r.URL.Query().Has("token") {
			u.letIn(out, r)
			return
		}
		if !u.knows(r) {
			u.turnAway(out, r)
			return
		}
		if strings.HasPrefix(r.URL.Path, "/api/") && !u.hasKey(r) {
			http.Error(out, notLetIn, http.StatusForbidden)
			return
		}
		control := http.NewResponseController(out)
		control.SetWriteDeadline(time.Now().Add(pageTake))
		if r.Method == http.MethodPost { // while a page listens nothing is read, and that is no fault
			control.SetReadDeadline(time.Now().Add(pageRead))
		}
		r.Body = http.MaxBytesReader(out, r.Body, maxAsked)
		next.ServeHTTP(out, r)
	})
}

// refuse says why a request cannot be this page's own; nil if it can.
func (u *uiServer) refuse(r *http.Request) *turnedDown {
	if r.Host != "127.0.0.1:"+u.port && r.Host != "localhost:"+u.port {
		return &turnedDown{status: http.StatusMisdirectedRequest, text: "this is no host of that name"}
	}
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	origin := r.Header.Get("Origin")
	if origin != "http://"+r.Host && (origin != "" || !reads) {
		return &turnedDown{
			status: http.StatusForbidden,
			text:   "the request is another page's: its Origin is not this one",
		}
	}
	site := r.Header.Get("Sec-Fetch-Site")
	opens := r.Method == http.MethodGet && r.URL.Path == "/" && r.Header.Get("Sec-Fetch-Mode") == "navigate"
	if site != "" && site != "same-origin" && site != "none" && !opens {
		return &turnedDown{
			status: http.StatusForbidden,
			text:   "the request is another page's: Sec-Fetch-Site is " + site,
		}
	}
	if !reads {
		kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if kind != "application/json" {
			return &turnedDown{status: http.StatusUnsupportedMediaType, text: "post JSON"}
		}
	}
	return nil
}

// knows reports whether a request has the cookie.
func (u *uiServer) knows(r *http.Request) bool {
	for _, c := range r.CookiesNamed(u.cookieName()) {
		if equalTexts(c.Value, u.session) {
			return true
		}
	}
	return false
}

// hasKey reports whether a request has the key. What listens cannot send it as a header.
func (u *uiServer) hasKey(r *http.Request) bool {
	return equalTexts(r.Header.Get(keyHeader), u.key) || equalTexts(r.URL.Query().Get("key"), u.key)
}

// equalTexts takes equally long wherever two texts of one length differ.
func equalTexts(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// letIn turns the address's token into the cookie and the key, once. Whoever has the cookie already comes in
// again, and has the key too if it is a page of this port.
func (u *uiServer) letIn(out http.ResponseWriter, r *http.Request) {
	page := "/"
	spent := r.Method == http.MethodGet && u.spend(r.URL.Query().Get("token"))
	if spent {
		page = "/#key=" + u.key
	}
	if r.Method != http.MethodGet || !spent && !u.knows(r) {
		http.Error(out, "this address was opened already, or is an earlier one: "+notLetIn,
			http.StatusForbidden)
		return
	}
	http.SetCookie(out, &http.Cookie{
		Name:     u.cookieName(),
		Value:    u.session,
		Path:     "/",
		HttpOnly: true,
		SameSite: http.SameSiteStrictMode,
	})
	http.Redirect(out, r, page, http.StatusSeeOther)
}

// spend reports whether token is the address's, which then is of no use any more.
func (u *uiServer) spend(token string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.token == "" || !equalTexts(token, u.token) {
		return false
	}
	u.token = ""
	return true
}

// onceMore has a browser ask again by itself. Following a link from another page, such as a terminal's in a
// browser, it does not send the cookie along.
const onceMore = `<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url=/">` +
	`<title>live-lambda</title><p><a href="/">Go on</a>`

// turnAway answers a request without the cookie.
func (u *uiServer) turnAway(out http.ResponseWriter, r *http.Request) {
	site := r.Header.Get("Sec-Fetch-Site")
	if r.URL.Path == "/" && (site == "cross-site" || site == "same-site") {
		out.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(out, onceMore)
		return
	}
	http.Error(out, notLetIn, http.StatusForbidden)
}

func (u *uiServer) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", servePageFile("local_ui.html", "text/html; charset=utf-8"))
	mux.HandleFunc("GET /inspector.css", servePageFile("local_ui.css", "text/css; charset=utf-8"))
	for _, name := range []string{"local_ui.js", "local_ui_json.js", "local_ui_draw.js"} {
		mux.HandleFunc("GET /"+name, servePageFile(name, "text/javascript; charset=utf-8"))
	}
	mux.HandleFunc("GET /favicon.ico", func(out http.ResponseWriter, r *http.Request) {
		out.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /api/events", u.events)
	const one = "GET /api/invocations/{id}"
	mux.HandleFunc(one, u.ofInvocation(u.details))
	mux.HandleFunc(one+"/event", u.ofInvocation(serveText(func(i keptInvocation) []byte { return i.Event })))
	mux.HandleFunc(one+"/error", u.ofInvocation(serveText(func(i keptInvocation) []byte { return i.Error })))
	mux.HandleFunc(one+"/answer", u.ofInvocation(serveAnswer))
	mux.HandleFunc(one+"/curl", u.ofInvocation(serveCurl))
	mux.HandleFunc(one+"/invoke", u.ofInvocation(serveInvocation))
	mux.HandleFunc("POST /api/again", u.runAgain)
	mux.HandleFunc("POST /api/save", u.save)
	return mux
}

// servePageFile serves a file of the page's own.
func servePageFile(name, contentType string) http.HandlerFunc {
	text, err := pageFiles.ReadFile(name)
	return func(out http.ResponseWriter, r *http.Request) {
		if err != nil {
			http.Error(out, err.Error(), http.StatusInternalServerError)
			return
		}
		out.Header().Set("Content-Type", contentType)
		out.Write(text)
	}
}

var errNotKept = errors.New("there is no such invocation any more: only the last ones are kept")

// ofInvocation finds the invocation that a path names.
func (u *uiServer) ofInvocation(
	serve func(out http.ResponseWriter, i keptInvocation),
) http.HandlerFunc {
	return func(out http.ResponseWriter, r *http.Request) {
		id, err := strconv.Atoi(r.PathValue("id"))
		i, found := u.history.get(id)
		if err != nil || !found {
			http.Error(out, errNotKept.Error(), http.StatusNotFound)
			return
		}
		serve(out, i)
	}
}

// invocationDetails are what the page shows of one, but for its event, answer and error, which it asks for.
type invocationDetails struct {
	facts
	Context eventContext   `json:"context"`
	Pieces  []piece        `json:"pieces,omitempty"`
	Printed []printedPiece `json:"printed,omitempty"`
	Event   bool           `json:"event"`  // it is kept
	Answer  int            `json:"answer"` // bytes that are kept of it
	Error   int            `json:"error"`
	Request bool           `json:"request"` // it can be written as a command of curl
}

// details is the route of an invocation's details.
func (u *uiServer) details(out http.ResponseWriter, i keptInvocation) {
	serveJSON(out, invocationDetails{
		facts:   i.facts,
		Context: i.Context,
		Pieces:  i.Pieces,
		Printed: i.Printed,
		Event:   i.Event != nil,
		Answer:  len(i.Answer),
		Error:   len(i.Error),
		Request: ofRequest(i.Event),
	})
}

// ofRequest reports whether an event can be written as a command of curl. Most are looked through in no time,
// for a large one is slow to parse.
func ofRequest(event []byte) bool {
	if !bytes.Contains(event, []byte(`"httpMethod"`)) && !bytes.Contains(event, []byte(`"method"`)) {
		return false
	}
	var e httpRequestEvent
	json.Unmarshal(event, &e) // leaves out what is of another type
	return httpToken.MatchString(e.method())
}

// serveJSON answers with JSON.
func serveJSON(out http.ResponseWriter, data any) {
	out.Header().Set("Content-Type", "application/json")
	json.NewEncoder(out).Encode(data)
}

// serveText answers with what came from outside and should be text.
func serveText(part func(keptInvocation) []byte) func(http.ResponseWriter, keptInvocation) {
	return func(out http.ResponseWriter, i keptInvocation) {
		text := part(i)
		if text == nil {
			http.Error(out, "that is not kept: it was too large", http.StatusGone)
			return
		}
		out.Header().Set("Content-Type", "text/plain; charset=utf-8")
		out.Write(text)
	}
}

// serveAnswer answers with a handler's answer, which may be any bytes.
func serveAnswer(out http.ResponseWriter, i keptInvocation) {
	out.Header().Set("Content-Type", "application/octet-stream")
	out.Write(i.Answer)
}

// pageCommand is a command to copy. It reads the event from File, if that is not empty.
type pageCommand struct {
	Text string `json:"text"`
	File string `json:"file,omitempty"`
}

func serveCurl(out http.ResponseWriter, i keptInvocation) {
	text, err := copyAsCurl(i)
	if err != nil {
		http.Error(out, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	serveJSON(out, pageCommand{Text: text})
}

func serveInvocation(out http.ResponseWriter, i keptInvocation) {
	if i.Event == nil {
		http.Error(out, "the event is not kept: it was too large", http.StatusGone)
		return
	}
	c := pageCommand{}
	if needsFile(i.Event) {
		c.File = "event-" + strconv.Itoa(i.ID) + ".json"
	}
	c.Text = copyAsInvoke(i, 2, c.File)
	serveJSON(out, c)
}

// asked is what a page posts.
type asked struct {
	ID        int     `json:"id"`
	Event     *string `json:"event"`     // to run in place of the invocation's own; null: that
	Name      string  `json:"name"`      // of a file
	Overwrite bool    `json:"overwrite"` // it may be there already
}

// readAsked reads what is posted. It reports false when it has answered.
func readAsked(out http.ResponseWriter, r *http.Request) (a asked, ok bool) {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(&a)
	if err != nil {
		http.Error(out, "what was posted is not understood: "+err.Error(), http.StatusBadRequest)
		return a, false
	}
	return a, true
}

// runAgain is the route that runs an invocation again.
func (u *uiServer) runAgain(out http.ResponseWriter, r *http.Request) {
	a, ok := readAsked(out, r)
	if !ok {
		return
	}
	if u.local == nil {
		http.Error(out, "these are recordings, and nothing runs here: live-lambda invoke runs one",
			http.StatusConflict)
		return
	}
	var event []byte
	if a.Event != nil {
		event = []byte(*a.Event)
	}
	id, err := u.local.again(a.ID, event)
	if err != nil {
		http.Error(out, err.Error(), http.StatusConflict)
		return
	}
	serveJSON(out, map[string]int{"id": id})
}

// save is the route that saves an event as a file in the working directory.
func (u *uiServer) save(out http.ResponseWriter, r *http.Request) {
	a, ok := readAsked(out, r)
	if !ok {
		return
	}
	i, found := u.history.get(a.ID)
	err := checkSavedName(a.Name)
	if !found {
		err = errNotKept
	}
	if err != nil {
		http.Error(out, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	file, err := i.save(a.Name, a.Overwrite)
	if err != nil {
		status := http.StatusUnprocessableEntity
		if errors.Is(err, errSavedAlready) {
			status = http.StatusConflict
		}
		http.Error(out, err.Error(), status)
		return
	}
	serveJSON(out, map[string]string{"file": file})
}

// checkSavedName returns an error unless a page may save a file of that name. It may not choose a directory,
// nor a file that is hidden.
func checkSavedName(name string) error {
	name = strings.TrimSpace(name)
	odd := strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) })
	if odd || strings.ContainsAny(name, `/\:`) || strings.HasPrefix(name, ".") || len(name) > 200 {
		return errors.New("give a plain name for a file in the directory that live-lambda runs in")
	}
	return nil
}
