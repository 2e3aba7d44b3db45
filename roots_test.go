//go:build !layer

package main

// roots_test.go tests which root certificates a connection is verified with.

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writePEM writes a file of certificates, and returns its path.
func writePEM(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// checkChain verifies what a server shows, its own certificate first. want is in the error; if it is empty,
// there is none.
func checkChain(t *testing.T, name string, roots rootFiles, host, want string, chain ...*certificate) {
	t.Helper()
	state := tls.ConnectionState{ServerName: host}
	for _, c := range chain {
		state.PeerCertificates = append(state.PeerCertificates, c.Certificate)
	}
	err := roots.tlsConfig("").VerifyConnection(state)
	if want == "" && err != nil {
		t.Errorf("%s: %v", name, err)
	}
	if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("%s: %v, want %q", name, err, want)
	}
}

const certifiedHost = "events.example.com"

func TestCertificateLeadsToARootInAnyOrder(t *testing.T) {
	root := newCertificate(t, "Root", nil)
	other := newCertificate(t, "Other", nil)
	middle := newCertificate(t, "Middle", root)
	leaf := newCertificate(t, certifiedHost, root)
	deep := newCertificate(t, certifiedHost, middle)
	self := newCertificate(t, certifiedHost, nil)
	roots := rootFiles{
		writePEM(t, "# Other\n"+other.pem()+"\n# Root\n"+root.pem()+self.pem()),
	}

	checkChain(t, "good", roots, certifiedHost, "", leaf)
	checkChain(t, "with an intermediate", roots, certifiedHost, "", deep, middle)
	checkChain(t, "with the root", roots, certifiedHost, "", deep, middle, root)
	checkChain(t, "in any order", roots, certifiedHost, "", deep, root, other, middle)
	checkChain(t, "its own root", roots, certifiedHost, "", self)
}

func TestCertificateOfNobodyWhoIsTrustedIsRefused(t *testing.T) {
	root := newCertificate(t, "Root", nil)
	other := newCertificate(t, "Other", nil)
	forged := newCertificate(t, "Root", nil) // the same name, another key
	middle := newCertificate(t, "Middle", root)
	leaf := newCertificate(t, certifiedHost, root)
	deep := newCertificate(t, certifiedHost, middle)
	self := newCertificate(t, certifiedHost, nil)
	noCA := newCertificate(t, certifiedHost, leaf) // by one that must not issue
	roots := rootFiles{writePEM(t, other.pem()+root.pem())}

	const want = "unknown authority"
	checkChain(t, "no intermediate", roots, certifiedHost, want, deep)
	checkChain(t, "by a server's certificate", roots, certifiedHost, want, noCA, leaf)
	checkChain(t, "self-signed", rootFiles{writePEM(t, root.pem())}, certifiedHost, want, self)
	checkChain(t, "a root of the same name", rootFiles{writePEM(t, forged.pem())}, certifiedHost, want, leaf)
	checkChain(t, "a root that the server sends",
		rootFiles{writePEM(t, other.pem())}, certifiedHost, want, leaf, root)
}

func TestCertificateIsForItsNamesAlone(t *testing.T) {
	root := newCertificate(t, "Root", nil)
	leaf := newCertificate(t, certifiedHost, root)
	wildcard := newCertificate(t, "*.example.com", root)
	roots := rootFiles{writePEM(t, root.pem())}

	checkChain(t, "wildcard", roots, certifiedHost, "", wildcard)
	checkChain(t, "another name", roots, "events.example.org",
		"certificate is valid for events.example.com, not events.example.org", leaf)
	checkChain(t, "not below the wildcard", roots, "a.events.example.com",
		"certificate is valid for", wildcard)
}

func TestCertificateIsForItsTimeAndForServers(t *testing.T) {
	root := newCertificate(t, "Root", nil)
	expired := newCertificate(t, certifiedHost, root, func(c *x509.Certificate) {
		c.NotAfter = time.Now().Add(-time.Hour)
	})
	early := newCertificate(t, certifiedHost, root, func(c *x509.Certificate) {
		c.NotBefore = time.Now().Add(time.Hour)
	})
	client := newCertificate(t, certifiedHost, root, func(c *x509.Certificate) {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	})
	roots := rootFiles{writePEM(t, root.pem())}

	checkChain(t, "expired", roots, certifiedHost, "expired", expired)
	checkChain(t, "not valid yet", roots, certifiedHost, "not yet valid", early)
	checkChain(t, "for clients", roots, certifiedHost, "incompatible key usage", client)
}

func TestRootsAreThoseOfTheFirstFileThatCanBeRead(t *testing.T) {
	root := newCertificate(t, "Root", nil)
	other := newCertificate(t, "Other", nil)
	leaf := newCertificate(t, certifiedHost, root)
	file := writePEM(t, other.pem()+root.pem())
	dir := filepath.Dir(file)
	missing := filepath.Join(dir, "missing.pem")

	checkChain(t, "the second file", rootFiles{missing, file}, certifiedHost, "", leaf)
	checkChain(t, "a directory is no file", rootFiles{dir, file}, certifiedHost, "", leaf)
	checkChain(t, "only the first file counts",
		rootFiles{writePEM(t, other.pem()), file}, certifiedHost, "unknown authority", leaf)
}

func TestFileOfRootsMayHaveOddBlocks(t *testing.T) {
	root := newCertificate(t, "Root", nil)
	leaf := newCertificate(t, certifiedHost, root)
	odd := "-----END CERTIFICATE-----\n" +
		"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n" +
		"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" +
		strings.ReplaceAll(root.pem(), "\n", "\r\n") +
		"-----BEGIN CERTIFICATE-----\nAAAA"
	checkChain(t, "an odd file", rootFiles{writePEM(t, odd)}, certifiedHost, "", leaf)
}

// As `cat` joins files without a newline at their ends, and with more on a line than some readers take.
func TestFileOfRootsMayHaveOddLines(t *testing.T) {
	root := newCertificate(t, "Root", nil)
	other := newCertificate(t, "Other", nil)
	joined := writePEM(t, strings.TrimSuffix(root.pem(), "\n")+other.pem())
	for _, issuer := range []*certificate{root, other} {
		leaf := newCertificate(t, certifiedHost, issuer)
		checkChain(t, "joined without a newline", rootFiles{joined}, certifiedHost, "", leaf)
	}
	leaf := newCertificate(t, certifiedHost, root)
	long := "# " + strings.Repeat("x", 70<<10) + "\n"
	checkChain(t, "after a long comment", rootFiles{writePEM(t, long+root.pem())}, certifiedHost, "", leaf)
	checkChain(t, "the first file alone counts",
		rootFiles{writePEM(t, other.pem()+long), writePEM(t, root.pem())},
		certifiedHost, "unknown authority", leaf)
	trusted := strings.ReplaceAll(other.pem(), "CERTIFICATE", "TRUSTED CERTIFICATE")
	checkChain(t, "after another kind of block", rootFiles{writePEM(t, trusted+root.pem())}, certifiedHost,
		"", leaf)
}

// The configuration that the program uses, over real connections.
func TestWebSocketIsOpenedOnlyToAServerWithAGoodCertificate(t *testing.T) {
	root := newCertificate(t, "Root", nil)
	file := writePEM(t, root.pem())
	serve := func(c *certificate) *httptest.Server {
		return startEchoServer(t, true, tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: c.key})
	}
	named := serve(newCertificate(t, certifiedHost, root))
	address := serve(newCertificate(t, "127.0.0.1", root, func(c *x509.Certificate) {
		c.DNSNames = nil
		c.IPAddresses = []net.IP{{127, 0, 0, 1}}
	}))
	plain := startEchoServer(t, false)
	tests := []struct {
		name string
		host string
		to   *httptest.Server
		file string
		want string // in the error; none: the WebSocket opens
	}{
		{name: "good", host: certifiedHost, to: named, file: file},
		{name: "good for an address", host: "127.0.0.1", to: address, file: file},
		{
			name: "unknown authority", host: certifiedHost, to: named, file: file + "x",
			want: "certificate signed by unknown authority",
		},
		{
			name: "another name", host: "events.example.org", to: named, file: file,
			want: "certificate is valid for events.example.com, not events.example.org",
		},
		{
			name: "an address", host: "127.0.0.1", to: named, file: file,
			want: "cannot validate certificate for 127.0.0.1",
		},
		{
			name: "another address", host: "127.0.0.2", to: address, file: file,
			want: "certificate is valid for 127.0.0.1, not 127.0.0.2",
		},
		{
			name: "no TLS at all", host: certifiedHost, to: plain, file: file,
			want: "does not look like a TLS handshake",
		},
	}
	for _, test := range tests {
		roots := rootFiles{test.file}
		transport := &http.Transport{
			TLSClientConfig: roots.tlsConfig(test.host),
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, test.to.Listener.Addr().String())
			},
		}
		r := <-dial(t.Context(), transport, "https://"+test.host, nil)
		if r.err == nil {
			r.value.close()
		}
		if test.want == "" && r.err != nil {
			t.Errorf("%s: %v", test.name, r.err)
		}
		if test.want != "" && (r.err == nil || !strings.Contains(r.err.Error(), test.want) ||
			strings.Contains(r.err.Error(), "\n")) {
			t.Errorf("%s: %v, want %q in one line", test.name, r.err, test.want)
		}
	}
}
