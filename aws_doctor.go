//go:build !layer

package main

// aws_doctor.go tries the way to an AppSync API step by step, as the extension and `local` use it:
// doctorSteps has the list. In: the configuration. Out: one line for each step, which says what was found, or
// what to do, or which failure kept it from being tried. Nothing secret is printed. What it publishes goes to
// a channel that nobody else subscribes to. aws_doctor_function.go has the steps for a function.

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
	checkTimeout = 15 * time.Second // for one step, besides what sessions wait by themselves
	maxSkew      = 5 * time.Second  // a local end drops invocations whose deadline is over by its own clock
)

// roundTrips are the sizes of the messages that go there and back: a small one, one of 200 KB in base64url,
// and one of several events in several publishes.
var roundTrips = [3]int{1 << 10, 150_000, 1 << 20}

const doctorUsage = `usage: live-lambda doctor [flags] [FUNCTION]

Tries the AppSync API from this machine and says of each step whether it works, or what to do:
configuration, names, proxy, TLS, clock, credentials, connect, subscribe, publish, and the way there
and back of small and large messages. Of a FUNCTION it says besides whether it can be invoked, has the
layer and this API, and whether its deployed code has started, by the last hour of its log. Exit status
0 only if all is well.

It needs these permissions, the least first:
  of the API, those that local has: the developers' policy of live-lambda template
  cloudformation:DescribeStacks for --stack
  lambda:GetFunctionConfiguration and logs:FilterLogEvents for a FUNCTION`

// doctor is the command doctor.
func (t *console) doctor(args []string) int {
	f := t.commandLine("doctor", doctorUsage)
	f.addAPI()
	f.addKeys()
	f.addShared(false)
	words, status, ok := f.parse(args)
	if !ok {
		return status
	}
	if len(words) > 1 {
		return f.wrong("there is no use for %q", words[1])
	}
	transport := newTransport()
	defer transport.CloseIdleConnections()
	d := &doctor{
		out:         t.out,
		transport:   transport,
		lookup:      net.DefaultResolver.LookupHost,
		credentials: developerCredentials(f.profile, transport),
		source:      credentialsSource(f.profile),
		sizes:       roundTrips,
		cli:         awsCLI{profile: f.profile},
	}
	d.configure = func(ctx context.Context) (api *endpoint, err error) {
		api, d.keys, err = f.endpoint(ctx)
		return api, err
	}
	if len(words) == 1 {
		d.function = words[0]
	}
	if !d.run(context.Background()) {
		return 1
	}
	return 0
}

// doctor is one run.
type doctor struct {
	out         io.Writer
	configure   func(context.Context) (*endpoint, error)
	transport   *http.Transport
	lookup      func(ctx context.Context, host string) ([]string, error)
	credentials func(context.Context) (credentials, error)
	source      string // of the credentials
	sizes       [3]int // of the messages that go there and back, bytes
	cli         awsCLI // that tells of the function
	function    string // name or ARN; empty: none

	// what steps leave for those that need them
	config  functionConfig   // function
	api     *appsync         // configuration; it has the first of the keys
	keys    []*sealer        // configuration
	reached map[string]reach // TLS: what each host has said
	session *session         // connect
	inbox   *doctorInbox     // subscribe
}

// doctorStep is one thing to try.
type doctorStep struct {
	name  string
	needs []string // the steps without which it cannot be tried
	// a doctorNote is no failure
	try func(*doctor, context.Context) (found string, err error)
}

// doctorSteps are tried in this order, and the round trips after them.
var doctorSteps = []doctorStep{
	{name: "configuration", needs: nil, try: (*doctor).checkConfiguration},
	{name: "names", needs: []string{"configuration"}, try: (*doctor).checkNames},
	{name: "proxy", needs: []string{"configuration"}, try: (*doctor).checkProxy},
	{name: "TLS", needs: []string{"configuration", "names", "proxy"}, try: (*doctor).checkTLS},
	{name: "clock", needs: []string{"configuration", "names", "proxy", "TLS"}, try: (*doctor).checkClock},
	{name: "credentials", needs: []string{"configuration"}, try: (*doctor).checkCredentials},
	{
		name:  "connect",
		needs: []string{"configuration", "names", "proxy", "TLS", "credentials"},
		try:   (*doctor).checkConnect,
	},
	{name: "subscribe", needs: []string{"connect"}, try: (*doctor).checkSubscribe},
	{name: "publish", needs: []string{"connect"}, try: (*doctor).checkPublish},
	{
		name:  "publish (HTTPS)",
		needs: []string{"configuration", "names", "proxy", "TLS", "credentials"},
		try:   (*doctor).checkPublishHTTPS,
	},
	{name: "delivery", needs: []string{"subscribe", "publish"}, try: (*doctor).checkDelivery},
}

// steps returns all steps, with a round trip for each size, and those of the function if there is one.
func (d *doctor) steps() []doctorStep {
	steps := slices.Clone(doctorSteps)
	for _, size := range d.sizes {
		steps = append(steps, doctorStep{
			name:  "round trip",
			needs: []string{"delivery"},
			try: func(d *doctor, ctx context.Context) (string, error) {
				return d.checkRoundTrip(ctx, size)
			},
		})
	}
	if d.function != "" {
		steps = append(steps, functionSteps...)
	}
	return steps
}

// run tries everything and reports whether all is well.
func (d *doctor) run(ctx context.Context) bool {
	ok := d.tryAll(ctx, d.steps())
	if d.session != nil {
		d.session.conn.close()
	}
	return ok
}

// tryAll tries steps in their order and reports whether none has failed.
func (d *doctor) tryAll(ctx context.Context, steps []doctorStep) bool {
	failed := map[string]bool{}
	for _, step := range steps {
		missing := step.firstOf(failed)
		if missing != "" {
			if !failed[step.name] { // the round trips have one name
				d.say("-", step.name, "not tried without "+missing)
			}
			failed[step.name] = true
			continue
		}
		found, err := step.try(d, ctx)
		var note doctorNote
		switch {
		case err == nil:
			d.say("ok", step.name, found)
		case errors.As(err, &note):
			d.say("note", step.name, note.Error())
		default:
			failed[step.name] = true
			d.say("FAIL", step.name, err.Error())
		}
	}
	return len(failed) == 0
}

// firstOf returns the first of the steps that s needs that is among failed, or an empty name.
func (s doctorStep) firstOf(failed map[string]bool) string {
	for _, name := range s.needs {
		if failed[name] {
			return name
		}
	}
	return ""
}

// say prints the line of one step.
func (d *doctor) say(result, name, text string) {
	fmt.Fprintf(d.out, "%-4s  %-15s  %s\n", result, name, plainText(text))
}

// ---- what is set ----

// checkConfiguration reads the configuration. It finds which API is meant, or says what is not set or not
// valid, and if requests would be signed for another region than the API's.
func (d *doctor) checkConfiguration(ctx context.Context) (string, error) {
	api, err := d.configure(ctx)
	if err != nil {
		return "", err
	}
	d.api = newAppSync(*api, nil, d.transport, d.credentials, slog.New(slog.DiscardHandler))
	region := regionOf(api.http.Host)
	if region != "" && region != api.region && api.apiKey == "" {
		return "", fmt.Errorf(
			"requests would be signed for %s, and %s is in %s: give --region %s, or set "+
				"%s", api.region, api.http.Host, region, region, regionVariable)
	}
	found := fmt.Sprintf(
		"%s, namespace %s, region %s", api.http.Host, api.namespace, cmp.Or(api.region, "none"))
	if api.graphql {
		found += ", a GraphQL API"
	}
	if api.stage != "" {
		found += ", stage " + api.stage
	}
	if api.route != "" {
		found += ", route " + api.route
	}
	if len(d.keys) > 0 {
		found += ", " + keysText(d.keys)
	}
	return found, nil
}

// checkCredentials asks for the credentials that requests are signed with. It finds where they come from, or
// says how to get some.
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

// ---- the way to the API ----

// urls are where the API is: one, or two hosts.
func (d *doctor) urls() []*url.URL {
	if d.api.http.Host == d.api.realtime.Host {
		return []*url.URL{d.api.http}
	}
	return []*url.URL{d.api.http, d.api.realtime}
}

// checkNames looks up what this machine has to know: the hosts, or the proxy that is to look them up. It
// finds their addresses, or says which name is not found.
func (d *doctor) checkNames(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	var found []string
	for _, u := range d.urls() {
		proxy, err := d.proxyFor(u)
		if err == nil && proxy != nil { // the next step tells the error
			u = proxy
		}
		addresses, err := d.lookup(ctx, u.Hostname())
		if err != nil {
			return "", fmt.Errorf(
				"%s is not found: %w; check the name, and this machine's DNS", u.Hostname(), err)
		}
		found = appendNew(found, u.Hostname()+" is "+strings.Join(addresses, " "))
	}
	return strings.Join(found, ", "), nil
}

// appendNew appends a text that is not in list yet.
func appendNew(list []string, text string) []string {
	if slices.Contains(list, text) {
		return list
	}
	return append(list, text)
}

// proxyFor returns the proxy for u, nil if there is none. The transport's own error quotes the password of a
// proxy that cannot be parsed, so it is not passed on.
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

// checkProxy connects to the proxy that the environment names. It finds which one there is, or says that it
// cannot be reached.
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
		found = proxyAddress(proxy)
		if err := d.knock(ctx, found); err != nil {
			return "", fmt.Errorf("%w; check HTTPS_PROXY, or name %s in NO_PROXY", err, u.Hostname())
		}
		if proxy.User != nil {
			found += ", with user name"
		}
	}
	name := ignoredProxy()
	if found == "none" && name != "" {
		found = "none: " + name +
			" is not an URL like http://USER:PASSWORD@HOST:PORT (a % in it is written %25)"
	}
	return found, nil
}

// proxyAddress is where net/http connects to: HOST:PORT.
func proxyAddress(proxy *url.URL) string {
	port := proxy.Port()
	if port == "" {
		switch proxy.Scheme {
		case "https":
			port = "443"
		case "socks5", "socks5h":
			port = "1080"
		default:
			port = "80"
		}
	}
	return net.JoinHostPort(proxy.Hostname(), port)
}

// knock connects to an address and hangs up.
func (d *doctor) knock(ctx context.Context, address string) error {
	dial := d.transport.DialContext
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	conn, err := dial(ctx, "tcp", address)
	if err != nil {
		return err
	}
	conn.Close()
	return nil
}

// ignoredProxy is the variable whose proxy net/http passes over in silence, since it is no URL, neither as it
// is nor behind http://. It is empty if there is none.
func ignoredProxy() string {
	for _, name := range []string{"HTTPS_PROXY", "https_proxy"} {
		value := os.Getenv(name)
		_, err := url.Parse(value)
		_, hostErr := url.Parse("http://" + value)
		if err != nil && hostErr != nil {
			return name
		}
	}
	return ""
}

// reach is what a host has said to one request without authorization.
type reach struct {
	tls    *tls.ConnectionState // nil over http://
	before time.Time            // when the host cannot have written date yet
	date   time.Time            // by the host's clock, cut to a second; zero if it tells none
	after  time.Time            // when the host had written date
}

// checkTLS asks each host for anything at all. Whatever it answers, the way to it is open. It finds the TLS
// version and the certificate, or says why there is no way.
func (d *doctor) checkTLS(ctx context.Context) (string, error) {
	d.reached = map[string]reach{}
	var found []string
	for _, u := range d.urls() {
		r, err := d.reach(ctx, u)
		if err != nil {
			return "", reachError(u.Host, err)
		}
		d.reached[u.Host] = r
		found = appendNew(found, tlsText(r.tls))
	}
	return strings.Join(found, "; "), nil
}

// reach asks the host of u.
func (d *doctor) reach(ctx context.Context, u *url.URL) (reach, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	var r reach
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn:              func(httptrace.GotConnInfo) { r.before = time.Now() },
		GotFirstResponseByte: func() { r.after = time.Now() },
	})
	address := u.Scheme + "://" + u.Host + d.api.http.Path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return reach{}, err
	}
	resp, err := d.transport.RoundTrip(req)
	if err != nil {
		return reach{}, err
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // what it says does not matter
	r.tls = resp.TLS
	r.date, _ = http.ParseTime(resp.Header.Get("Date"))
	return r, nil
}

// reachError says what to do about an error of the way to a host.
func reachError(host string, err error) error {
	var authority x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	todo := "check the host and the way out to port 443; if that takes a proxy, set HTTPS_PROXY"
	switch {
	case errors.As(err, &authority):
		todo = "if a proxy opens TLS, put its root certificate where SSL_CERT_FILE or SSL_CERT_DIR says"
	case errors.As(err, &hostname):
		todo = "check the host"
	case errors.As(err, &invalid):
		todo = "check this machine's clock"
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
	return fmt.Sprintf("%s, certificate of %s until %s",
		tls.VersionName(s.Version),
		cmp.Or(leaf.Subject.CommonName, strings.Join(leaf.DNSNames, " "), "no name"),
		leaf.NotAfter.Format(time.DateOnly))
}

// checkClock compares this machine's clock with the dates of the servers. It finds that the two agree, or
// says to set the clock.
func (d *doctor) checkClock(context.Context) (string, error) {
	for _, u := range d.urls() {
		r := d.reached[u.Host]
		if r.date.IsZero() {
			return "", fmt.Errorf("%s does not tell its date", u.Host)
		}
		behind, ahead := r.skew()
		if behind > maxSkew {
			return "", clockError(behind, "behind")
		}
		if ahead > maxSkew {
			return "", clockError(ahead, "ahead of")
		}
	}
	return fmt.Sprintf("within %s of the server's", maxSkew), nil
}

// skew returns how far this machine's clock is behind the host's or ahead of it, at least: only what no slow
// network explains counts.
func (r reach) skew() (behind, ahead time.Duration) {
	return r.date.Sub(r.after), r.before.Sub(r.date.Add(time.Second))
}

func clockError(skew time.Duration, side string) error {
	return fmt.Errorf(
		"this machine is %s %s the server: set its clock; AppSync refuses signatures that are minutes off, "+
			"and invocations look too old or too young here", skew.Round(time.Second), side)
}

// ---- AppSync ----

// checkConnect opens the WebSocket. It finds how long that takes, or says what AppSync has refused.
func (d *doctor) checkConnect(ctx context.Context) (string, error) {
	start := time.Now()
	session, err := d.api.connect(ctx)
	if err != nil {
		return "", err
	}
	d.session = session
	return fmt.Sprintf("%s in %s", d.api.realtime.Host, durationText(time.Since(start))), nil
}

// checkSubscribe subscribes to what `local` subscribes to, for the permission alone, and to what the
// extension does. It finds the two channels, or says what AppSync has refused.
func (d *doctor) checkSubscribe(ctx context.Context) (string, error) {
	d.inbox = newDoctorInbox(d.api.sealer)
	ignore := func(string) {}
	if err := d.session.subscribe(ctx, ackTimeout, d.api.requests(d.api.stage), ignore); err != nil {
		return "", err
	}
	answers := d.api.channel(d.session.name + "/*")
	if err := d.session.subscribe(ctx, ackTimeout, answers, d.inbox.receive); err != nil {
		return "", err
	}
	return d.api.requests(d.api.stage) + " and " + answers, nil
}

// checkPublish publishes over the WebSocket. It finds how long that takes, or says what AppSync has refused.
func (d *doctor) checkPublish(ctx context.Context) (string, error) {
	start := time.Now()
	if err := d.session.publish(ctx, d.ownChannel("publish"), oneProbe("publish"), awaited); err != nil {
		return "", err
	}
	return "taken in " + durationText(time.Since(start)), nil
}

// checkPublishHTTPS publishes over HTTPS, as what is over the WebSocket's rate. It finds how long that takes,
// or says what AppSync has refused.
func (d *doctor) checkPublishHTTPS(ctx context.Context) (string, error) {
	start := time.Now()
	for body := range d.api.publishes(d.ownChannel("https"), oneProbe("https")) {
		if err := d.api.publishHTTPS(ctx, ackTimeout, body); err != nil {
			return "", err
		}
	}
	return "taken in " + durationText(time.Since(start)), nil
}

// ownChannel is a channel below the doctor's own or, if that has no name yet, one that nobody uses.
func (d *doctor) ownChannel(name string) string {
	if d.session == nil {
		return d.api.channel("doctor/" + name)
	}
	return d.api.channel(d.session.name + "/" + name)
}

// oneProbe is the events of a publish: a probe, which changes nothing anywhere.
func oneProbe(id string) iter.Seq[[]byte] {
	return slices.Values([][]byte{part{Type: "probe", RequestID: id}.event()})
}

// checkDelivery publishes probes until one has come back: AppSync may confirm a subscription before it
// delivers. It finds how long that takes, or says that something drops events.
func (d *doctor) checkDelivery(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	start := time.Now()
	err := errNoProbe
	for errors.Is(err, errNoProbe) {
		err = d.probeOnce(ctx)
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) && err != nil {
		return "", fmt.Errorf(
			"nothing has come back within %s of what AppSync has taken: look for a handler or resolver of "+
				"the API that drops events", ackTimeout)
	}
	if err != nil {
		return "", err
	}
	return "the subscription delivers, after " + durationText(time.Since(start)), nil
}

// probeOnce publishes a probe and waits a moment for one to come back. The error is errNoProbe if none has.
func (d *doctor) probeOnce(ctx context.Context) error {
	if err := d.session.publish(ctx, d.ownChannel("delivery"), oneProbe("delivery"), awaited); err != nil {
		return err
	}
	again := time.NewTimer(probeEvery)
	defer again.Stop()
	_, err := d.await(ctx, "delivery", again.C)
	return err
}

// checkRoundTrip sends a message of random bytes, so that nothing on the way makes it smaller, and compares
// what comes back. It finds how long that takes, or says what is lost or changed.
func (d *doctor) checkRoundTrip(ctx context.Context, size int) (string, error) {
	body := make([]byte, size)
	rand.Read(body)
	name := fmt.Sprint("bytes-", size)
	events := slices.Collect(
		part{Type: "response", RequestID: name, sealer: d.api.sealer}.split(body))
	start := time.Now()
	message, err := d.thereAndBack(ctx, name, events, size)
	if err != nil {
		return "", err
	}
	back, err := message.message(size)
	if err != nil || !bytes.Equal(back, body) {
		return "", fmt.Errorf(
			"%s came back changed: look for a handler or resolver of the API that changes events",
			bytesText(int64(size)))
	}
	took := durationText(time.Since(start))
	return fmt.Sprintf("%s (events: %d) in %s", bytesText(int64(size)), len(events), took), nil
}

// thereAndBack publishes the events of a message of that size, and waits until it has come back.
func (d *doctor) thereAndBack(ctx context.Context, id string, events [][]byte, size int) (*joiner, error) {
	wait := checkTimeout + time.Duration(size)*2*time.Second/slowestUplink // both ways are slow
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if err := d.session.publish(ctx, d.ownChannel(id), slices.Values(events), awaited); err != nil {
		return nil, err
	}
	message, err := d.await(ctx, id, nil)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil, fmt.Errorf(
			"%s were taken and have not come back within %s", bytesText(int64(size)), durationText(wait))
	}
	return message, err
}

// split cuts body, encoded as p says, into the events of one message.
func (p part) split(body []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for !p.Last {
			n := min(partData, len(body))
			p.Last = n == len(body)
			if !yield(p.encode(body[:n])) {
				return
			}
			body = body[n:]
			p.Index++
			// these are for part 0 alone
			p.Headers = nil
			p.ErrorType = ""
			p.XRayCause = ""
		}
	}
}

// ---- what comes back ----

// await waits for a message to be whole, until the session or ctx ends. If again fires before that, the error
// is errNoProbe.
func (d *doctor) await(ctx context.Context, id string, again <-chan time.Time) (*joiner, error) {
	for {
		message := d.inbox.whole(id)
		if message != nil {
			return message, nil
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
	sealer *sealer       // of what it takes, but for probes; nil: that is not sealed
	news   chan struct{} // has one element if something has come since it was last looked at

	mu       sync.Mutex         // guards the following
	messages map[string]*joiner // by request ID
}

// inboxLimit is how many messages an inbox holds at most. The doctor sends six itself: those of publish,
// publish (HTTPS) and delivery, and the round trips. Others may publish to its channel too, and must not fill
// the memory.
const inboxLimit = 17

func newDoctorInbox(sealer *sealer) *doctorInbox {
	return &doctorInbox{sealer: sealer, news: make(chan struct{}, 1), messages: map[string]*joiner{}}
}

// receive takes an event. The session's reader calls it, so it does not wait.
func (b *doctorInbox) receive(event string) {
	p, err := b.sealer.parse(event)
	if p == nil || err != nil {
		return
	}
	b.add(p)
	select {
	case b.news <- struct{}{}:
	default: // whoever waits has not looked yet, and will find this too
	}
}

// add joins a part to its message. A part that does not fit is missing later, so its error says nothing more.
func (b *doctorInbox) add(p *part) {
	b.mu.Lock()
	defer b.mu.Unlock()
	message := b.messages[p.RequestID]
	if message == nil {
		if len(b.messages) == inboxLimit {
			return
		}
		message = newJoiner(maxPayload)
		b.messages[p.RequestID] = message
	}
	message.add(p)
}

// whole returns a message if all of it has come, else nil.
func (b *doctorInbox) whole(id string) *joiner {
	b.mu.Lock()
	defer b.mu.Unlock()
	message := b.messages[id]
	if message == nil || !message.complete() {
		return nil
	}
	return message
}
