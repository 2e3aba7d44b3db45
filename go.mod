module live-lambda

go 1.26.0

toolchain go1.26.11

require golang.org/x/net v0.62.0
