#!/bin/sh
# wrapper.sh, in the layer /opt/live-lambda-runtime-wrapper.sh, is what a function names in AWS_LAMBDA_EXEC_WRAPPER.
# In: the runtime's command line as arguments. It points the runtime at the extension's proxy, then becomes that runtime
# (same process), through the further wrapper that LIVE_LAMBDA_EXEC_WRAPPER names, if any.
# https://docs.aws.amazon.com/lambda/latest/dg/runtimes-modify.html#runtime-wrapper
# Shell built-ins only, and no subshell: each process would cost every cold start a millisecond or more.
set -eu

# Without an API there is nobody to send events to, and the proxy would only cost time, unless it is to answer with
# errors, or to pass calls on to another proxy.
between=yes
if [ -z "${LIVE_LAMBDA_APPSYNC_HTTP_HOST-}${LRAP_RUNTIME_API_ENDPOINT-}" ]; then
	case ${LIVE_LAMBDA_OFFLINE-} in
	[eE][rR][rR][oO][rR]) ;;
	*) between=no ;;
	esac
fi
case ${LIVE_LAMBDA-} in
[oO][fF][fF]) between=no ;; # the extension runs no proxy
esac

if [ "$between" = yes ]; then
	# The extension takes 8082 for what is no port from 1 to 65535, so this does too. The digits are spelled out because
	# a range means more than ten characters in some locales; six of them, zeros in front aside, are above 65535.
	port=${LRAP_LISTENER_PORT:-8082}
	while [ "$port" != "${port#0?}" ]; do port=${port#0}; done
	case $port in
	*[!0123456789]* | ??????*) port=8082 ;;
	esac
	if [ "$port" -lt 1 ] || [ "$port" -gt 65535 ]; then port=8082; fi
	export AWS_LAMBDA_RUNTIME_API="127.0.0.1:$port"
fi

# Lambda knows one wrapper only. One that names this file again would go round for ever, and is passed over.
further=${LIVE_LAMBDA_EXEC_WRAPPER-}
if [ -z "$further" ] || [ "$further" = "$0" ]; then
	exec "$@"
fi

# The exit statuses are those that Lambda's own runtimes use for AWS_LAMBDA_EXEC_WRAPPER.
fail() {
	printf '%s: LIVE_LAMBDA_EXEC_WRAPPER is %s, which %s\n' "$0" "$further" "$2" >&2
	exit "$1"
}
case $further in
*/*)
	[ -f "$further" ] || fail 127 "is no file; is the layer that holds it attached?"
	[ -x "$further" ] || fail 126 "is not executable"
	;;
esac
exec "$further" "$@"
