//go:build !layer

package main

// local_typescript_test.go runs a TypeScript project of npm workspaces, testdata/workspaces, as it stands: no
// bundler has been at it. Packages find each other by links in node_modules, which `npm install` makes of
// package.json.

import (
	"os"
	"path/filepath"
	"testing"
)

const (
	ordersEvent  = `{"orders":[{"id":"1","price":"19.99"},{"id":"2","price":"0.01"}]}`
	ordersAnswer = `{"total":"€20.00"}`
	mailEvent    = `{"name":"Ada","price":"12.50"}`
	mailAnswer   = `{"text":"Hello Ada, Large"}`
)

// newWorkspaces copies the project, and links its packages as `npm install` does. It returns its directory.
func newWorkspaces(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	err := os.CopyFS(root, os.DirFS("testdata/workspaces"))
	if err != nil {
		t.Fatal(err)
	}
	linkPackage(t, root, "@acme/shared", "../../packages/shared")
	return root
}

// linkPackage makes a package of the project known by its name.
func linkPackage(t *testing.T, root, name, target string) {
	t.Helper()
	path := filepath.Join(root, "node_modules", name)
	err := os.MkdirAll(filepath.Dir(path), 0o777)
	if err == nil {
		err = os.Symlink(target, path)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// addTsx gives the project the package tsx.
func addTsx(t *testing.T, root string) {
	t.Helper()
	linkPackage(t, root, "tsx", filepath.Join(frameworks(t), "node_modules/tsx"))
}

func skipForAWSClient(t *testing.T) {
	t.Helper()
	if awsClient() != "" {
		t.Skip("AWS's own client runs no TypeScript")
	}
}

func TestWorkspacesRunWithNodesTypeScript(t *testing.T) {
	skipForAWSClient(t)
	wantNode(t, 22, 18) // runs TypeScript by itself
	r := newNode(t, newWorkspaces(t))
	r.answer(handled{
		handler: "services/orders/src/handler.handler",
		event:   []byte(ordersEvent),
		want:    ordersAnswer,
	})
}

func TestWorkspacesRunWithTsx(t *testing.T) {
	t.Parallel()
	skipForAWSClient(t)
	root := newWorkspaces(t)
	addTsx(t, root)
	r := newNode(t, root)
	r.answer(handled{
		handler: "services/orders/src/handler.handler",
		event:   []byte(ordersEvent),
		want:    ordersAnswer,
	})
}

// What its own directory does not have is found above it, but tsx reads the tsconfig.json of the working
// directory.
func TestWorkspacesServiceRunsInItsOwnDirectory(t *testing.T) {
	t.Parallel()
	skipForAWSClient(t)
	root := newWorkspaces(t)
	addTsx(t, root)
	r := newNode(t, filepath.Join(root, "services/mail"))
	r.answer(handled{handler: "src/handler.handler", event: []byte(mailEvent), want: mailAnswer})
}
