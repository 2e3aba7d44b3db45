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
		{"good", rootFiles{bundle}, "events.example.com", []*certificate{leaf}, ""},
		{"with an intermediate", rootFiles{bundle}, "events.example.com", []*certificate{deep, middle}, ""},
		{"with the root", rootFiles{bundle}, "events.example.com", []*certificate{deep, middle, root}, ""},
		{"in any order", rootFiles{bundle}, "events.example.com", []*certificate{deep, root, other, middle},
			""},
		{"wildcard", rootFiles{bundle}, "events.example.com", []*certificate{wildcard}, ""},
		{"the second file", rootFiles{missing, bundle}, "events.example.com", []*certificate{leaf}, ""},
		{"a directory is no file", rootFiles{dir, bundle}, "events.example.com", []*certificate{leaf}, ""},
		{"an odd file", rootFiles{odd}, "events.example.com", []*certificate{leaf}, ""},
		{"its own root", rootFiles{bundle}, "events.example.com", []*certificate{self}, ""},
		{"only the first file counts", rootFiles{file("b", other.pem()), bundle}, "events.example.com",
			[]*certificate{leaf}, "unknown authority"},
		{"no intermediate", rootFiles{bundle}, "events.example.com", []*certificate{deep},
			"unknown authority"},
		{"a root of the same name", rootFiles{file("c", forged.pem())}, "events.example.com",
			[]*certificate{leaf}, "unknown authority"},
		{"a root that the server sends", rootFiles{file("d", other.pem())}, "events.example.com",
			[]*certificate{leaf, root}, "unknown authority"},
		{"self-signed", rootFiles{file("e", root.pem())}, "events.example.com", []*certificate{self},
			"unknown authority"},
		{"by a server's certificate", rootFiles{bundle}, "events.example.com", []*certificate{noCA, leaf},
			"unknown authority"},
		{"another name", rootFiles{bundle}, "events.example.org", []*certificate{leaf},
			"certificate is valid for events.example.com, not events.example.org"},
		{"not below the wildcard", rootFiles{bundle}, "a.events.example.com", []*certificate{wildcard},
			"certificate is valid for"},
		{"expired", rootFiles{bundle}, "events.example.com", []*certificate{expired}, "expired"},
		{"not valid yet", rootFiles{bundle}, "events.example.com", []*certificate{early}, "not yet valid"},
		{"for clients", rootFiles{bundle}, "events.example.com", []*certificate{client},
			"incompatible key usage"},
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
		{"good", "events.example.com", server, file, ""},
		{"good for an address", "127.0.0.1", address, file, ""},
		{"unknown authority", "events.example.com", server, file + "x",
			"certificate signed by unknown authority"},
		{"another name", "events.example.org", server, file,
			"certificate is valid for events.example.com, not events.example.org"},
		{"an address", "127.0.0.1", server, file, "cannot validate certificate for 127.0.0.1"},
		{"another address", "127.0.0.2", address, file, "certificate is valid for 127.0.0.1, not 127.0.0.2"},
		{"no TLS at all", "events.example.com", plain, file, "does not look like a TLS handshake"},
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
