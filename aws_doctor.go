//go:build !layer

package main

// aws_doctor.go tries the way to an AppSync API step by step, as the extension and `local` use it. In: the
// configuration. Out: one line for each check, which says ok, what to do, or after what failed that it was
// not tried. Nothing secret is printed. What it publishes goes to a channel that nobody but itself subscribes
// to.

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	checkTimeout = 15 * time.Second // for one check, beside what sessions wait by themselves
	maxSkew      = 5 * time.Second  // a local end drops invocations whose deadline is over by its own clock
)

// roundTrips are the sizes of the messages: a small one, one of 200 KB in base64url, and one of several
// events in several publishes.
var roundTrips = [3]int{1 << 10, 150_000, 1 << 20}

const doctorUsage = `usage: live-lambda doctor [flags]

Tries the AppSync API from this machine and says of each step whether it works, or what to do:
configuration, names, proxy, TLS, clock, credentials, connect, subscribe, publish, and the way there
and back of small and large messages. Exit status 0 only if all is well.`

// doctor is the command doctor.
func (t *console) doctor(args []string) int {
	f := t.commandLine("doctor", doctorUsage)
	f.addAPI()
	words, status, ok := f.parse(args)
	if !ok {
		return status
	}
	if len(words) > 0 {
		return f.wrong("what is %q?", words[0])
	}
	transport := newTransport()
	defer transport.CloseIdleConnections()
	d := &doctor{
		out:         t.out,
		configure:   f.apiConfig,
		transport:   transport,
		lookup:      net.DefaultResolver.LookupHost,
		credentials: developerCredentials(f.profile, transport),
		source:      credentialsSource(f.profile),
		sizes:       roundTrips,
	}
	if !d.run(context.Background()) {
		return 1
	}
	return 0
}

// apiConfig is the API that flags, environment and stack name. Whatever else is wrong in these is an error
// too.
func (f *commandLine) apiConfig(ctx context.Context) (*apiConfig, error) {
	getenv, err := f.getenv(ctx)
	if err != nil {
		return nil, err
	}
	cfg, problems := readConfig(regional(getenv))
	switch {
	case len(problems) > 0:
		return nil, configError(problems)
	case cfg.api == nil:
		return nil, errors.New(noAPI)
	}
	return cfg.api, nil
}

// doctor is one run.
type doctor struct {
	out         io.Writer
	configure   func(context.Context) (*apiConfig, error)
	transport   *http.Transport
	lookup      func(ctx context.Context, host string) ([]string, error)
	credentials func(context.Context) (credentials, error)
	source      string // of the credentials
	sizes       [3]int // of the messages that go there and back, bytes

	api     *appsync
	reached map[string]reach // by host
	session *session
	inbox   doctorInbox
}

// doctorCheck is one step. needs name the steps without which it cannot be tried.
type doctorCheck struct {
	name  string
	needs []string
	try   func(context.Context) (found string, err error)
}

func (d *doctor) checks() []doctorCheck {
	way := []string{"configuration", "names", "proxy", "TLS"}
	connected := []string{"connect"}
	return []doctorCheck{
		{"configuration", nil, d.checkConfiguration},
		{"names", way[:1], d.checkNames},
		{"proxy", way[:1], d.checkProxy},
		{"TLS", way[:3], d.checkTLS},
		{"clock", way, d.checkClock},
		{"credentials", way[:1], d.checkCredentials},
		{"connect", append(way, "credentials"), d.checkConnect},
		{"subscribe", connected, d.checkSubscribe},
		{"publish", connected, d.checkPublish},
		{"publish (HTTPS)", append(way, "credentials"), d.checkPublishHTTPS},
		{"delivery", []string{"subscribe", "publish"}, d.checkDelivery},
		{"round trip", []string{"delivery"}, d.roundTrip(d.sizes[0])},
		{"round trip", []string{"delivery"}, d.roundTrip(d.sizes[1])},
		{"round trip", []string{"delivery"}, d.roundTrip(d.sizes[2])},
	}
}

// run tries everything and reports whether all is well.
func (d *doctor) run(ctx context.Context) bool {
	failed := map[string]bool{}
	for _, c := range d.checks() {
		if i := slices.IndexFunc(c.needs, func(name string) bool { return failed[name] }); i >= 0 {
			failed[c.name] = true
			d.say("-", c.name, "not tried without "+c.needs[i])
			continue
		}
		found, err := c.try(ctx)
		if err != nil {
			failed[c.name] = true
			d.say("FAIL", c.name, err.Error())
			continue
		}
		d.say("ok", c.name, found)
	}
	if d.session != nil {
		d.session.conn.close()
	}
	return len(failed) == 0
}

func (d *doctor) say(result, name, text string) {
	fmt.Fprintf(d.out, "%-4s  %-15s  %s\n", result, name, plainText(text))
}

// ---- what is set, and what lies between ----

func (d *doctor) checkConfiguration(ctx context.Context) (string, error) {
	api, err := d.configure(ctx)
	if err != nil {
		return "", err
	}
	d.api = newAppSync(endpoint(*api), nil, d.transport, d.credentials, slog.New(slog.DiscardHandler))
	if region := regionOf(api.http.Host); region != "" && region != api.region && api.apiKey == "" {
		return "", fmt.Errorf(
			"requests would be signed for %s, and %s is in %s: give --region %s, or set "+
				"LIVE_LAMBDA_APPSYNC_REGION", api.region, api.http.Host, region, region)
	}
	found := fmt.Sprintf(
		"%s, namespace %s, region %s", api.http.Host, api.namespace, cmp.Or(api.region, "none"))
	if api.graphql {
		found += ", a GraphQL API"
	}
	if !strings.HasSuffix(api.requests, "/requests") {
		found += ", stage " + api.requests[strings.LastIndexByte(api.requests, '/')+1:]
	}
	return found, nil
}

// urls are where the API is: one, or two hosts.
func (d *doctor) urls() []*url.URL {
	if d.api.http.Host == d.api.realtime.Host {
		return []*url.URL{d.api.http}
	}
	return []*url.URL{d.api.http, d.api.realtime}
}

// proxyFor returns the proxy for u, nil for none. An error must not be told as it is: it quotes the password.
func (d *doctor) proxyFor(u *url.URL) (*url.URL, error) {
	if d.transport.Proxy == nil {
		return nil, nil
	}
	proxy, err := d.transport.Proxy(&http.Request{URL: u})
	if err != nil {
		return nil, errors.New(
			"HTTPS_PROXY (or https_proxy) is not an URL like http://USER:PASSWORD@HOST:PORT")
	}
	return proxy, nil
}

// checkNames looks up what this machine has to know: the hosts, or the proxy that is to look them up.
func (d *doctor) checkNames(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	var found []string
	for _, u := range d.urls() {
		if proxy, err := d.proxyFor(u); err == nil && proxy != nil {
			u = proxy
		}
		addresses, err := d.lookup(ctx, u.Hostname())
		if err != nil {
			return "", fmt.Errorf(
				"%s is not found: %w; check the name, and this machine's DNS", u.Hostname(), err)
		}
		if s := u.Hostname() + " is " + strings.Join(addresses, " "); !slices.Contains(found, s) {
			found = append(found, s)
		}
	}
	return strings.Join(found, ", "), nil
}

func (d *doctor) checkProxy(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	found := "none"
	for _, u := range d.urls() {
		proxy, err := d.proxyFor(u)
		if err != nil {
			return "", err
		}
		if proxy == nil {
			continue
		}
		port := cmp.Or(
			proxy.Port(),
			map[string]string{"https": "443", "socks5": "1080", "socks5h": "1080"}[proxy.Scheme], "80")
		found = net.JoinHostPort(proxy.Hostname(), port)
		dial := d.transport.DialContext
		if dial == nil {
			dial = new(net.Dialer).DialContext
		}
		conn, err := dial(ctx, "tcp", found)
		if err != nil {
			return "", fmt.Errorf("%w; is HTTPS_PROXY right, or does NO_PROXY lack %s?", err, u.Hostname())
		}
		conn.Close()
		if proxy.User != nil {
			found += ", with user name"
		}
	}
	// net/http passes over in silence what is no URL
	for _, name := range []string{"HTTPS_PROXY", "https_proxy"} {
		_, err := url.Parse(os.Getenv(name))
		_, hostErr := url.Parse("http://" + os.Getenv(name))
		if err != nil && hostErr != nil && found == "none" {
			found = "none: " + name +
				" is not an URL like http://USER:PASSWORD@HOST:PORT (a % in it is written %25)"
		}
	}
	return found, nil
}

// reach is what one request without authorization has told about a host. before and after enclose the moment
// of date.
type reach struct {
	tls                 *tls.ConnectionState
	before, after, date time.Time
}

// checkTLS asks each host for anything at all: whatever it answers, the way to it is open.
func (d *doctor) checkTLS(ctx context.Context) (string, error) {
	d.reached = map[string]reach{}
	var found []string
	for _, u := range d.urls() {
		r, err := d.reach(ctx, u)
		if err != nil {
			return "", err
		}
		d.reached[u.Host] = r
		if s := tlsText(r.tls); !slices.Contains(found, s) {
			found = append(found, s)
		}
	}
	return strings.Join(found, "; "), nil
}

func (d *doctor) reach(ctx context.Context, u *url.URL) (r reach, err error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	trace := &httptrace.ClientTrace{
		GotConn:              func(httptrace.GotConnInfo) { r.before = time.Now() },
		GotFirstResponseByte: func() { r.after = time.Now() },
	}
	req, err := http.NewRequestWithContext(
		httptrace.WithClientTrace(ctx, trace), http.MethodGet, u.Scheme+"://"+u.Host+d.api.http.Path, nil)
	if err != nil {
		return r, err
	}
	resp, err := d.transport.RoundTrip(req)
	if err != nil {
		return r, reachError(u.Host, err)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // what it says does not matter
	r.tls = resp.TLS
	r.date, _ = http.ParseTime(resp.Header.Get("Date")) // zero where there is none
	return r, nil
}

// reachError says what to do about an error of the way to a host.
func reachError(host string, err error) error {
	var authority x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	todo := "is the host right, and is there a way out to port 443, or does it take HTTPS_PROXY?"
	switch {
	case errors.As(err, &authority):
		todo = "a proxy that opens TLS? Put its root certificate where SSL_CERT_FILE or SSL_CERT_DIR says"
	case errors.As(err, &hostname):
		todo = "is the host right?"
	case errors.As(err, &invalid):
		todo = "is this machine's clock right?"
	case errors.As(err, &record):
		todo = "what answers there does not speak TLS"
	case strings.Contains(err.Error(), "Proxy Authentication Required"):
		todo = "put user name and password into HTTPS_PROXY"
	}
	return fmt.Errorf("%s: %w; %s", host, err, todo)
}

func tlsText(s *tls.ConnectionState) string {
	if s == nil {
		return "none, as http:// asks for"
	}
	leaf := s.PeerCertificates[0]
	return fmt.Sprintf("%s, certificate of %s until %s", tls.VersionName(s.Version),
		cmp.Or(leaf.Subject.CommonName, strings.Join(leaf.DNSNames, " "), "no name"),
		leaf.NotAfter.Format(time.DateOnly))
}

// checkClock compares with the servers' Date, which is cut to a second. Only what no slow network explains
// counts.
func (d *doctor) checkClock(context.Context) (string, error) {
	for _, u := range d.urls() {
		r := d.reached[u.Host]
		if r.date.IsZero() {
			return "", fmt.Errorf("%s does not tell its date", u.Host)
		}
		side, skew := "behind", r.date.Sub(r.after)
		if early := r.before.Sub(r.date.Add(time.Second)); early > skew {
			side, skew = "ahead of", early
		}
		if skew > maxSkew {
			return "", fmt.
				Errorf("this machine is %s %s the server: set its clock; AppSync refuses signatures that "+
					"are minutes off, and invocations look too old or too young here",
					skew.Round(time.Second), side)
		}
	}
	return fmt.Sprintf("within %s of the server's", maxSkew), nil
}

func (d *doctor) checkCredentials(ctx context.Context) (string, error) {
	if d.api.apiKey != "" {
		return "an API key", nil
	}
	c, err := d.credentials(ctx)
	if err != nil {
		return "", err
	}
	if c.sessionToken != "" {
		return "from " + d.source + ", temporary", nil
	}
	return "from " + d.source + ", long-lived", nil
}

// ---- AppSync ----

func (d *doctor) checkConnect(ctx context.Context) (string, error) {
	var err error
	start := time.Now()
	if d.session, err = d.api.connect(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s in %s", d.api.realtime.Host, durationText(time.Since(start))), nil
}

// checkSubscribe subscribes to what `local` subscribes to, for the permission alone, and to what the
// extension does.
func (d *doctor) checkSubscribe(ctx context.Context) (string, error) {
	d.inbox.news = make(chan struct{}, 1)
	if err := d.session.subscribe(ctx, ackTimeout, d.api.requests, func(string) {}); err != nil {
		return "", err
	}
	answers := d.api.channel(d.session.name + "/*")
	if err := d.session.subscribe(ctx, ackTimeout, answers, d.inbox.receive); err != nil {
		return "", err
	}
	return d.api.requests + " and " + answers, nil
}

func (d *doctor) checkPublish(ctx context.Context) (string, error) {
	start := time.Now()
	err := d.session.publish(
		ctx, d.ownChannel("publish"),
		slices.Values([][]byte{part{Type: "probe", RequestID: "publish"}.event()}), true)
	return "taken in " + durationText(time.Since(start)), err
}

// checkPublishHTTPS tries the way of what is over the WebSocket's rate.
func (d *doctor) checkPublishHTTPS(ctx context.Context) (string, error) {
	start := time.Now()
	for body := range d.api.publishes(
		d.ownChannel("https"), slices.Values([][]byte{part{Type: "probe", RequestID: "https"}.event()})) {
		if err := d.api.publishHTTPS(ctx, ackTimeout, body); err != nil {
			return "", err
		}
	}
	return "taken in " + durationText(time.Since(start)), nil
}

// ownChannel is a channel below the doctor's own, or where that has no name yet one that nobody uses.
func (d *doctor) ownChannel(name string) string {
	if d.session == nil {
		return d.api.channel("doctor/" + name)
	}
	return d.api.channel(d.session.name + "/" + name)
}

// checkDelivery publishes probes until one has come back: a subscription may be confirmed before it delivers.
func (d *doctor) checkDelivery(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	start := time.Now()
	probe := part{Type: "probe", RequestID: "delivery"}.event()
	for {
		if err := d.session.publish(
			ctx, d.ownChannel("delivery"), slices.Values([][]byte{probe}), true); err != nil {
			return "", deliveryError(ctx, err)
		}
		again := time.NewTimer(probeEvery)
		_, err := d.await(ctx, "delivery", again.C)
		again.Stop()
		if !errors.Is(err, errNoProbe) {
			return "the subscription delivers, after " + durationText(time.Since(start)),
				deliveryError(ctx, err)
		}
	}
}

func deliveryError(ctx context.Context, err error) error {
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf(
			"nothing has come back within %s of what AppSync has taken: has the API handlers or resolvers "+
				"of its own that drop events?", ackTimeout)
	}
	return err
}

// roundTrip publishes a message of random bytes, so that nothing on the way makes it smaller, and compares
// what comes back.
func (d *doctor) roundTrip(size int) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		body := make([]byte, size)
		rand.Read(body)
		id := fmt.Sprint("bytes-", size)
		events := slices.Collect(part{Type: "response", RequestID: id}.split(body))
		wait := checkTimeout + time.Duration(size)*2*time.Second/slowestUplink
		ctx, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		start := time.Now()
		if err := d.session.publish(ctx, d.ownChannel(id), slices.Values(events), true); err != nil {
			return "", err
		}
		j, err := d.await(ctx, id, nil)
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return "", fmt.Errorf(
				"%s were taken and have not come back within %s", bytesText(int64(size)), durationText(wait))
		}
		if err != nil {
			return "", err
		}
		if back, err := j.message(size); err != nil || !bytes.Equal(back, body) {
			return "", fmt.Errorf(
				"%s came back changed: is there a handler or resolver of its own?", bytesText(int64(size)))
		}
		return fmt.Sprintf(
				"%s (events: %d) in %s", bytesText(int64(size)), len(events),
				durationText(time.Since(start))),
			nil
	}
}

// split cuts body, encoded as p says, into the events of one message.
func (p part) split(body []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for p.Index = 0; !p.Last; p.Index++ {
			n := min(partData, len(body))
			p.Last = n == len(body)
			if !yield(p.encode(body[:n])) {
				return
			}
			body = body[n:]
			p.Headers, p.ErrorType, p.XRayCause = nil, "", "" // for part 0 alone
		}
	}
}

// await waits for a message to be whole, until the session or ctx ends or again fires.
func (d *doctor) await(ctx context.Context, id string, again <-chan time.Time) (*joiner, error) {
	for {
		if j := d.inbox.take(id); j != nil {
			return j, nil
		}
		select {
		case <-d.inbox.news:
		case <-again:
			return nil, errNoProbe
		case <-d.session.ctx.Done():
			return nil, context.Cause(d.session.ctx)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// doctorInbox collects the parts of the messages that come back.
type doctorInbox struct {
	news     chan struct{}
	mu       sync.Mutex
	messages map[string]*joiner // by request ID
}

// receive is called by the session's reader.
func (b *doctorInbox) receive(event string) {
	p, err := parsePart(event)
	if p == nil || err != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.messages == nil {
		b.messages = map[string]*joiner{}
	}
	j := b.messages[p.RequestID]
	if j == nil {
		if len(b.messages) > 16 {
			return
		}
		j = newJoiner(maxPayload)
		b.messages[p.RequestID] = j
	}
	j.add(p) // what does not fit is missing later
	notify(b.news)
}

// take returns a message once it is whole.
func (b *doctorInbox) take(id string) *joiner {
	b.mu.Lock()
	defer b.mu.Unlock()
	j := b.messages[id]
	if j == nil || !j.complete() {
		return nil
	}
	return j
}
