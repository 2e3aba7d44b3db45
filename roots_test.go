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

// A server's certificate has to lead to one of the system's roots, as crypto/tls would have it.
func TestCertificates(t *testing.T) {
	root, other := newCertificate(t, "Root", nil), newCertificate(t, "Other", nil)
	forged := newCertificate(t, "Root", nil) // the same name, another key
	middle := newCertificate(t, "Middle", root)
	leaf := newCertificate(t, "events.example.com", root)
	deep := newCertificate(t, "events.example.com", middle)
	wildcard := newCertificate(t, "*.example.com", root)
	expired := newCertificate(t, "events.example.com", root, func(c *x509.Certificate) {
		c.NotAfter = time.Now().Add(-time.Hour)
	})
	early := newCertificate(t, "events.example.com", root, func(c *x509.Certificate) {
		c.NotBefore = time.Now().Add(time.Hour)
	})
	client := newCertificate(t, "events.example.com", root, func(c *x509.Certificate) {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	})
	self := newCertificate(t, "events.example.com", nil)
	noCA := newCertificate(t, "events.example.com", leaf) // by one that must not issue

	dir := t.TempDir()
	file := func(name, text string) string {
		name = filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	if err := os.WriteFile(filepath.Join(dir, "root.pem"), []byte(root.pem()), 0o600); err != nil {
		t.Fatal(err)
	}
	bundle := file("bundle.pem", "# Other\n"+other.pem()+"\n# Root\n"+root.pem()+self.pem())
	odd := file("odd.pem",
		"-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n-----BEGIN "+
			"CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"+
			strings.ReplaceAll(root.pem(), "\n", "\r\n")+"-----BEGIN CERTIFICATE-----\nAAAA")
	missing := filepath.Join(dir, "missing.pem")

	tests := []struct {
		name  string
		roots rootFiles
		host  string
		chain []*certificate
		want  string
	}{
		{name: "good", roots: rootFiles{bundle}, host: "events.example.com", chain: []*certificate{leaf}},
		{name: "with an intermediate", roots: rootFiles{bundle}, host: "events.example.com",
			chain: []*certificate{deep, middle}},
		{name: "with the root", roots: rootFiles{bundle}, host: "events.example.com",
			chain: []*certificate{deep, middle, root}},
		{name: "in any order", roots: rootFiles{bundle}, host: "events.example.com",
			chain: []*certificate{deep, root, other, middle}},
		{name: "wildcard", roots: rootFiles{bundle}, host: "events.example.com",
			chain: []*certificate{wildcard}},
		{name: "the second file", roots: rootFiles{missing, bundle}, host: "events.example.com",
			chain: []*certificate{leaf}},
		{name: "a directory is no file", roots: rootFiles{dir, bundle}, host: "events.example.com",
			chain: []*certificate{leaf}},
		{name: "an odd file", roots: rootFiles{odd}, host: "events.example.com", chain: []*certificate{leaf}},
		{name: "its own root", roots: rootFiles{bundle}, host: "events.example.com",
			chain: []*certificate{self}},
		{name: "only the first file counts", roots: rootFiles{file("b", other.pem()), bundle},
			host:  "events.example.com",
			chain: []*certificate{leaf}, want: "unknown authority"},
		{name: "no intermediate", roots: rootFiles{bundle}, host: "events.example.com",
			chain: []*certificate{deep},
			want:  "unknown authority"},
		{name: "a root of the same name", roots: rootFiles{file("c", forged.pem())},
			host:  "events.example.com",
			chain: []*certificate{leaf}, want: "unknown authority"},
		{name: "a root that the server sends", roots: rootFiles{file("d", other.pem())},
			host:  "events.example.com",
			chain: []*certificate{leaf, root}, want: "unknown authority"},
		{name: "self-signed", roots: rootFiles{file("e", root.pem())}, host: "events.example.com",
			chain: []*certificate{self},
			want:  "unknown authority"},
		{name: "by a server's certificate", roots: rootFiles{bundle}, host: "events.example.com",
			chain: []*certificate{noCA, leaf},
			want:  "unknown authority"},
		{name: "another name", roots: rootFiles{bundle}, host: "events.example.org",
			chain: []*certificate{leaf},
			want:  "certificate is valid for events.example.com, not events.example.org"},
		{name: "not below the wildcard", roots: rootFiles{bundle}, host: "a.events.example.com",
			chain: []*certificate{wildcard},
			want:  "certificate is valid for"},
		{name: "expired", roots: rootFiles{bundle}, host: "events.example.com",
			chain: []*certificate{expired}, want: "expired"},
		{name: "not valid yet", roots: rootFiles{bundle}, host: "events.example.com",
			chain: []*certificate{early}, want: "not yet valid"},
		{name: "for clients", roots: rootFiles{bundle}, host: "events.example.com",
			chain: []*certificate{client},
			want:  "incompatible key usage"},
	}
	for _, test := range tests {
		var chain []*x509.Certificate
		for _, c := range test.chain {
			chain = append(chain, c.Certificate)
		}
		if err := test.roots.tlsConfig("").VerifyConnection(
			tls.ConnectionState{
				ServerName: test.host, PeerCertificates: chain}); (err == nil) != (test.want == "") ||
			err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

// The configuration that the program uses, over real connections.
func TestWebSocketCertificates(t *testing.T) {
	root := newCertificate(t, "Root", nil)
	leaf := newCertificate(t, "events.example.com", root)
	server := startEchoServer(t, true, tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: leaf.key})
	file := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(file, []byte(root.pem()), 0o600); err != nil {
		t.Fatal(err)
	}
	plain := startEchoServer(t, false)
	other := newCertificate(t, "127.0.0.1", root, func(c *x509.Certificate) {
		c.DNSNames, c.IPAddresses = nil, []net.IP{{127, 0, 0, 1}}
	})
	address := startEchoServer(
		t, true, tls.Certificate{Certificate: [][]byte{other.Raw}, PrivateKey: other.key})
	for _, test := range []struct {
		name, host string
		to         *httptest.Server
		file, want string
	}{
		{name: "good", host: "events.example.com", to: server, file: file},
		{name: "good for an address", host: "127.0.0.1", to: address, file: file},
		{name: "unknown authority", host: "events.example.com", to: server, file: file + "x",
			want: "certificate signed by unknown authority"},
		{name: "another name", host: "events.example.org", to: server, file: file,
			want: "certificate is valid for events.example.com, not events.example.org"},
		{name: "an address", host: "127.0.0.1", to: server, file: file,
			want: "cannot validate certificate for 127.0.0.1"},
		{name: "another address", host: "127.0.0.2", to: address, file: file,
			want: "certificate is valid for 127.0.0.1, not 127.0.0.2"},
		{name: "no TLS at all", host: "events.example.com", to: plain, file: file,
			want: "does not look like a TLS handshake"},
	} {
		roots := rootFiles{test.file}
		transport :=
			&http.Transport{TLSClientConfig: roots.tlsConfig(test.host),
				DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, network, test.to.Listener.Addr().String())
				}}
		r := <-dial(t.Context(), transport, "https://"+test.host, nil)
		if (r.err == nil) != (test.want == "") ||
			r.err != nil &&
				(!strings.Contains(r.err.Error(), test.want) || strings.Contains(r.err.Error(), "\n")) {
			t.Errorf("%s: %v, want %q", test.name, r.err, test.want)
		}
		if r.err == nil {
			r.value.close()
		}
	}
}
