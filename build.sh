#!/bin/sh
# build.sh builds the layer into dist/ beside this file, from any working directory, or compares a zip with these sources.
# Needs Go (it fetches the version that go.mod pins where another one is installed), zip, sha256sum or shasum, and unzip
# to verify. Errors: one line that says what to do, exit status 1; 2 for wrong arguments.
#
#     go_extension.sha256                              hash of what the binaries are made of
#     extensions/bin/live-lambda-extension-go-ARCH     the binaries
#     layer/extension/                                 what an attached layer looks like in /opt:
#         bootstrap                                    starts functions on OS-only runtimes
#         live-lambda-runtime-wrapper.sh               for AWS_LAMBDA_EXEC_WRAPPER
#         extensions/live-lambda-extension             launcher: becomes the binary for the machine
#         extensions/bin/live-lambda-extension-go-ARCH
#     live-lambda-layer.zip                            layer/extension
#     live-lambda-layer-ARCH.zip                       the same with the binary in the launcher's place
#     SHA256SUMS                                       of the binaries and the zips
#
# Lambda starts every file directly in /opt/extensions as an extension, so the binaries that a launcher chooses from are
# in a directory below. LIVE_LAMBDA_EXTENSION_TYPE=node puts the file LIVE_LAMBDA_NODE_ENTRY, a whole program bundled
# into one file, into the layer as extensions/bin/live-lambda-extension-node.EXT in place of the two binaries. Such a
# layer is the same for every machine: there are no zips by architecture then.
#
# The zips are byte for byte the same wherever, whenever and by whomever they are built from the same sources: the
# compiler and all its settings are fixed here, names are sorted, times and modes constant, and extra fields and directory
# entries left out. What is compressed to which bytes is up to zip; Info-ZIP 3.0, the only one since 2008, was tried.
set -eu
umask 022
export LC_ALL=C TZ=UTC0 # of sorting, and of the times in a zip, which are local times
unset CDPATH ZIP ZIPOPT UNZIP UNZIPOPT ZIPINFO ZIPINFOOPT

arches='amd64 arm64'
settings='CGO_ENABLED=0 GO111MODULE=on GOWORK=off GOOS=linux GOAMD64=v1 GOARM64=v8.0'
flags='-mod=readonly -trimpath -buildvcs=false -tags=layer,nethttpomithttp2'
ldflags='-s -w -buildid='

usage() {
	cat <<-'END'
		usage: ./build.sh               build the layer into dist/
		       ./build.sh --verify ZIP  compile these sources afresh and compare every entry of ZIP with the outcome
		       ./build.sh --help
		LIVE_LAMBDA_EXTENSION_TYPE    go (default), or node: a layer that runs a Node.js extension
		LIVE_LAMBDA_NODE_ENTRY        that extension's program, bundled into one file (.mjs, .cjs, .js)
	END
}

die() {
	printf 'build.sh: %s\n' "$*" >&2
	exit 1
}

# need COMMAND PACKAGE: the packages carry the same names everywhere.
need() {
	command -v "$1" >/dev/null || die "$1 is not installed; install it (apt-get install $2, dnf install $2, brew install $2)"
}

# absolute PATH: the caller's path, so that it holds after the change of directory.
absolute() {
	case $1 in
	/*) printf '%s\n' "$1" ;;
	*) printf '%s\n' "$PWD/$1" ;;
	esac
}

# here prints this file's own directory, whatever symbolic links it was called through.
here() {
	self=$(absolute "$0")
	while [ -L "$self" ]; do
		link=$(readlink "$self")
		case $link in
		/*) self=$link ;;
		*) self=${self%/*}/$link ;;
		esac
	done
	cd -- "${self%/*}/" && pwd -P
}

cleanup() {
	if [ -d "$work/home" ]; then chmod -R u+w "$work/home"; fi # Go's module cache is read-only
	rm -rf -- "$work"
}

# choose_go fixes the compiler and everything of the user's that changes what it makes; where modules come from, and
# where they and compiled packages are kept, stays the user's own.
choose_go() {
	pinned=$(sed -n 's/^toolchain[[:space:]]*//p' go.mod)
	[ -n "$pinned" ] || die "go.mod pins no toolchain; add a line such as: toolchain go1.26.11"
	command -v go >/dev/null || die "go is not on PATH; install ${pinned} from https://go.dev/dl/"
	unset GOFLAGS GOEXPERIMENT GOROOT GODEBUG GOFIPS140 GOOS GOARCH GO111MODULE GOWORK # with modules off Go keeps to the compiler it has
	if [ ! -w "${HOME:-/nonexistent}" ]; then
		HOME=$(getent passwd "$(id -u)" 2>/dev/null | cut -d: -f6) || HOME=
		if [ ! -w "${HOME:-/nonexistent}" ]; then HOME=$work/home; fi
		export HOME
	fi
	export GOTOOLCHAIN="$pinned"
	goversion=$(go env GOVERSION) || goversion=
	[ "$goversion" = "$pinned" ] ||
		die "go.mod pins $pinned, which is neither installed nor could be fetched; install it from https://go.dev/dl/, or build once with the network there"
	{ # the last one is never empty: $(…) drops empty lines at the end
		read -r GOMODCACHE && read -r GOCACHE && read -r GOPROXY && read -r GOSUMDB && read -r GOPRIVATE &&
			read -r GONOPROXY && read -r GONOSUMDB && read -r GOINSECURE && read -r GOPATH
	} <<-END || die "go env failed; its own message is above"
		$(go env GOMODCACHE GOCACHE GOPROXY GOSUMDB GOPRIVATE GONOPROXY GONOSUMDB GOINSECURE GOPATH)
	END
	export GOMODCACHE GOCACHE GOPROXY GOSUMDB GOPRIVATE GONOPROXY GONOSUMDB GOINSECURE GOPATH
	export GOENV=off # what `go env -w` keeps has been read above
}

# hash_sources prints one hash of every Go file with its name, go.mod, go.sum, the compiler and its flags.
hash_sources() {
	printf '%s\n' "$goversion" "$settings" "$flags" "$ldflags" >"$work/inputs"
	# shellcheck disable=SC2086 # $sha256 is a command and its options, here and below
	{
		find go.mod go.sum -exec $sha256 {} +
		find . \( -path ./dist -o -name .git -o -name '.build.*' \) -prune -o -name '*.go' ! -type d -exec $sha256 {} +
	} >"$work/sums"
	sort "$work/sums" >>"$work/inputs"
	$sha256 <"$work/inputs" | cut -d' ' -f1
}

# reuse HASH DIR copies the binaries of dist to DIR if they are those of HASH. It is a subshell: its working directory
# stays the dist that was looked at, even when another run puts a new one in its place meanwhile.
reuse() (
	cd dist && [ "$(cat go_extension.sha256)" = "$1" ] || exit 1
	for arch in $arches; do
		[ -s "extensions/bin/live-lambda-extension-go-$arch" ] || exit 1
	done
	# shellcheck disable=SC2086
	if [ -f SHA256SUMS ]; then grep extensions/bin/ SHA256SUMS | $sha256 -c >/dev/null || exit 1; fi
	for arch in $arches; do
		cp -p "extensions/bin/live-lambda-extension-go-$arch" "$2/" || exit 1
	done
) 2>/dev/null

# compile DIR
compile() {
	for arch in $arches; do
		printf 'build.sh: compiling linux/%s with %s\n' "$arch" "$goversion"
		# shellcheck disable=SC2086 # lists of settings and flags
		env $settings GOARCH="$arch" go build $flags -ldflags "$ldflags" -o "$1/live-lambda-extension-go-$arch" . ||
			die "compiling linux/$arch failed and dist is as it was; correct what the compiler says above"
	done
}

# go_launcher prints extensions/live-lambda-extension of the layer for both architectures.
go_launcher() {
	cat <<'END'
#!/bin/sh
# Becomes the extension for this machine, with the same process ID. It starts no process to find out which one that is:
# `uname` would cost every cold start 2 ms. Each architecture has a dynamic loader of its own, glibc's (Amazon Linux,
# Debian) or musl's (Alpine).
set -eu

case $0 in
*/*) bin=${0%/*}/bin ;;
*) bin=bin ;;
esac

amd64=no arm64=no
if [ -e /lib64/ld-linux-x86-64.so.2 ] || [ -e /lib/ld-musl-x86_64.so.1 ]; then amd64=yes; fi
if [ -e /lib/ld-linux-aarch64.so.1 ] || [ -e /lib/ld-musl-aarch64.so.1 ]; then arm64=yes; fi

# With both (an image with foreign libraries) or none (an image with a static shell only) this shell's own executable
# tells. `read` drops NUL bytes; what is left of an ELF header is \177 E L F, class, data, version, the ABI where it is
# not 0, the type, and then the machine: 62, which is '>', for x86-64. Lambda has no third architecture.
if [ "$amd64" = "$arm64" ]; then
	header=
	if [ -r /proc/self/exe ]; then IFS= read -r header </proc/self/exe || :; fi
	case $header in
	?ELF????'>'* | ?ELF?????'>'*) amd64=yes arm64=no ;;
	?ELF*) amd64=no arm64=yes ;;
	*)
		printf '%s: cannot tell x86_64 from arm64 here: neither a dynamic loader in /lib64 or /lib nor /proc/self/exe says; attach the layer of one architecture\n' "$0" >&2
		exit 126
		;;
	esac
fi

if [ "$amd64" = yes ]; then
	exec "$bin/live-lambda-extension-go-amd64" "$@"
fi
exec "$bin/live-lambda-extension-go-arm64" "$@"
END
}

# node_launcher prints extensions/live-lambda-extension of a layer with a Node.js extension.
node_launcher() {
	cat <<'END'
#!/bin/sh
# Becomes the Node.js extension, run by the node of the function's own runtime, else by the one on PATH.
set -eu

case $0 in
*/*) bin=${0%/*}/bin ;;
*) bin=bin ;;
esac

node=/var/lang/bin/node
if [ ! -x "$node" ]; then node=node; fi
if ! command -v "$node" >/dev/null; then
	printf '%s: no node in /var/lang/bin nor on PATH; this layer is for functions with a Node.js runtime\n' "$0" >&2
	exit 127
fi
set -- "$bin"/live-lambda-extension-node.* "$@" # there is one: its ending tells node what kind of module it is
exec "$node" "$@"
END
}

# lay_out DIR puts the layer together in DIR/layer/extension from DIR/extensions/bin, and what goes into the zip of each
# architecture in $work/ARCH.
lay_out() {
	opt=$1/layer/extension
	mkdir -p "$opt/extensions/bin"
	cp wrapper.sh "$opt/live-lambda-runtime-wrapper.sh"
	cp bootstrap.sh "$opt/bootstrap"
	if [ "$type" = node ]; then
		node_launcher >"$opt/extensions/live-lambda-extension"
		cp -- "$entry" "$opt/extensions/bin/live-lambda-extension-node.$ending"
	else
		go_launcher >"$opt/extensions/live-lambda-extension"
		cp "$1"/extensions/bin/* "$opt/extensions/bin/"
		for arch in $arches; do
			mkdir -p "$work/$arch/extensions"
			cp "$opt/bootstrap" "$opt/live-lambda-runtime-wrapper.sh" "$work/$arch/"
			cp "$1/extensions/bin/live-lambda-extension-go-$arch" "$work/$arch/extensions/live-lambda-extension"
		done
	fi
}

# pack DIR ZIP: level 9 takes seconds and saves a half percent, once for all who download the layer.
pack() (
	cd "$1"
	find . -type f -exec chmod 755 {} + # of the entry of node as well: one mode for all
	find . -exec touch -t 198001010000 {} +
	find . -type f | sed 's|^\./||' | sort | zip -q -X -D -9 "$2" -@
)

# build makes dist.
build() {
	hash=$(hash_sources)
	if reuse "$hash" "$new/extensions/bin"; then
		echo "build.sh: compiling skipped: the sources' hash is still $hash"
	else
		compile "$new/extensions/bin"
		[ "$(hash_sources)" = "$hash" ] || die "the sources changed while they were compiled and dist is as it was; build again"
	fi
	echo "$hash" >"$new/go_extension.sha256"
	lay_out "$new"
	pack "$new/layer/extension" "$new/live-lambda-layer.zip"
	for arch in $arches; do
		if [ -d "$work/$arch" ]; then pack "$work/$arch" "$new/live-lambda-layer-$arch.zip"; fi
	done
	# shellcheck disable=SC2086
	(cd "$new" && $sha256 extensions/bin/* live-lambda-layer*.zip >SHA256SUMS)
	sizes=$(cd "$new" && wc -c live-lambda-layer*.zip)
	swap
	printf 'build.sh: built dist\n%s\n' "$sizes"
}

# swap puts the finished dist in the old one's place. Until here the old one stays as it was, whole and with the hash of
# its own sources; it is never mixed with the new. `mv DIR/dist .` is one rename, which fails while there is a dist: so
# of runs at the same time each puts in a whole one, and the last one's stays.
swap() {
	trap '' HUP INT PIPE TERM
	tries=0
	until mv "$new" . 2>/dev/null; do
		tries=$((tries + 1))
		[ "$tries" -le 100 ] || die "cannot replace $PWD/dist; remove it and build again"
		mv dist "$work/old.$tries" 2>/dev/null || : # another run may just have taken it
	done
}

# mode ZIP NAME prints how the entry's type and mode read in a listing: -rwxr-xr-x.
mode() {
	unzip -Z "$1" "$2" | cut -d' ' -f1
}

# report WHAT NAME
report() {
	printf '%12s  %s\n' "$1" "$2"
	differences=$((differences + 1))
}

# verify compares $zip with a build of its kind: for both architectures, or for the one whose binary is the extension.
# Entries are read one at a time and never unpacked: the zip is not trusted, and a name that occurs twice in it differs.
verify() {
	given=$work/given.zip
	cp -- "$zip" "$given" || die "cannot read $zip"
	unzip -Z1 "$given" >"$work/names" 2>/dev/null || die "$zip is not a zip that unzip can list"
	sort "$work/names" >"$work/given"
	tree=$new/layer/extension ours=$new/live-lambda-layer.zip
	case $type:$(unzip -p -P none "$given" extensions/live-lambda-extension 2>/dev/null | od -An -tx1 -N20 | tr -d ' \n') in
	go:7f454c46*3e00) arches=amd64 ;; # e_machine in the ELF header
	go:7f454c46*b700) arches=arm64 ;;
	esac
	compile "$new/extensions/bin"
	lay_out "$new"
	case $arches in
	amd64 | arm64) tree=$work/$arches ours=$new/live-lambda-layer-$arches.zip ;;
	esac
	pack "$tree" "$ours"
	printf 'build.sh: comparing with %s\n' "${ours##*/}"
	unzip -Z1 "$ours" | sort >"$work/ours"

	differences=0
	while IFS= read -r name; do
		if ! grep -qxF -e "$name" "$work/given"; then
			report missing "$name"
		elif ! unzip -p -P none "$given" "$name" 2>/dev/null | cmp -s - "$tree/$name"; then
			report differs "$name"
		elif [ "$(mode "$given" "$name")" != "$(mode "$ours" "$name")" ]; then
			report 'other mode' "$name"
		else
			printf '%12s  %s\n' same "$name"
		fi
	done <"$work/ours"
	comm -23 "$work/given" "$work/ours" >"$work/more"
	while IFS= read -r name; do
		report 'not expected' "$name"
	done <"$work/more"

	[ "$differences" -eq 0 ] || die "$zip is not what these sources build; entries that differ: $differences"
	cmp -s "$given" "$ours" ||
		die "every entry of $zip is what these sources build, but the zip itself is not: it was packed by another zip program, or holds more than its entries"
	printf 'build.sh: %s is, byte for byte, what these sources build\n' "$zip"
}

case $#:${1-} in
0:) zip= ;;
1:--help | 1:-h)
	usage
	exit
	;;
2:--verify) zip=$(absolute "$2") ;;
*)
	usage >&2
	exit 2
	;;
esac

type=${LIVE_LAMBDA_EXTENSION_TYPE:-go}
case $type in
go) ;;
node)
	[ -n "${LIVE_LAMBDA_NODE_ENTRY-}" ] ||
		die "LIVE_LAMBDA_NODE_ENTRY is not set; LIVE_LAMBDA_EXTENSION_TYPE=node wants the path of the extension's program there"
	entry=$(absolute "$LIVE_LAMBDA_NODE_ENTRY")
	[ -f "$entry" ] || die "LIVE_LAMBDA_NODE_ENTRY is $LIVE_LAMBDA_NODE_ENTRY, which is no file"
	[ -r "$entry" ] || die "LIVE_LAMBDA_NODE_ENTRY is $LIVE_LAMBDA_NODE_ENTRY, which cannot be read"
	case ${entry##*/} in
	*.*) ending=${entry##*.} ;;
	*) ending=js ;;
	esac
	;;
*) die "LIVE_LAMBDA_EXTENSION_TYPE is $type; want go or node" ;;
esac

root=$(here)
cd -- "$root"
need zip zip
if command -v sha256sum >/dev/null; then
	sha256=sha256sum
else
	sha256='shasum -a 256'
	need shasum perl
fi
[ -z "$zip" ] || need unzip unzip

work=$(mktemp -d "$root/.build.XXXXXX") || die "cannot write to $root"
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 141' PIPE
trap 'exit 143' TERM
new=$work/dist
mkdir -p "$new/extensions/bin"
choose_go
if [ -n "$zip" ]; then verify; else build; fi
