#!/bin/sh
# bootstrap.sh, in the layer /opt/bootstrap, starts functions on OS-only runtimes (provided.al2023: Go, Rust, C++), which
# know no AWS_LAMBDA_EXEC_WRAPPER. Lambda takes a package's own bootstrap first, so package the program under another
# name and make that name the function's handler: this script then starts LAMBDA_TASK_ROOT/_HANDLER through
# live-lambda-runtime-wrapper.sh, in the same process.
# https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html
# Images built on the provided base keep their program in /var/runtime/bootstrap, which comes after /opt/bootstrap in
# the order of search; it is started where the handler names no program. Exit statuses are a shell's.
set -eu

root=${LAMBDA_TASK_ROOT:-/var/task}
image=${LAMBDA_RUNTIME_DIR:-/var/runtime}/bootstrap
case ${_HANDLER-} in
'' | bootstrap | ./bootstrap) program= ;; # a package's bootstrap that started this file would go round for ever
*) program=$root/$_HANDLER ;;
esac

if [ -f "$program" ] && [ -x "$program" ]; then
	:
elif [ -f "$image" ] && [ -x "$image" ]; then
	program=$image
elif [ -f "$program" ]; then
	printf '%s: %s, which the handler names, is not executable; chmod 755 it before packaging\n' "$0" "$program" >&2
	exit 126
else
	printf '%s: the handler is "%s", but %s holds no program of that name; package the program under a name other than bootstrap and make that name the handler\n' \
		"$0" "${_HANDLER-}" "$root" >&2
	exit 127
fi
# As the further wrapper (Lambda Web Adapter's has this path too) this file would be started for ever.
if [ "${LIVE_LAMBDA_EXEC_WRAPPER-}" = "$0" ]; then unset LIVE_LAMBDA_EXEC_WRAPPER; fi
exec "${0%/*}/live-lambda-runtime-wrapper.sh" "$program"
