//go:build layer

package main

// main_layer.go is the layer's func main. The developer's build has its own, in main_developer.go.

import "os"

// main is the extension. In the layer's binary there is nothing else.
func main() {
	if !startedByLambda() {
		os.Stderr.WriteString(
			"live-lambda: this binary is the layer's extension; Lambda starts it, without arguments\n")
		os.Exit(2)
	}
	os.Exit(extension())
}
