#!/bin/sh
# Installs the Debian packages that mmscope needs, or says exactly what to type.
# Asks for nothing and does nothing when they are all there. With the argument "kernels" also those
# that building kernels takes, and those of the architecture that only built kernels boot on.
set -eu

packages="qemu-system-x86 qemu-system-arm gcc libc6-dev make erofs-utils
debian-archive-keyring shellcheck util-linux xz-utils python3-venv gcc-i686-linux-gnu libc6-dev-i386-cross"
case "$(uname -m)" in
aarch64) packages="$packages gcc-x86-64-linux-gnu libc6-dev-amd64-cross" ;;
*) packages="$packages gcc-aarch64-linux-gnu libc6-dev-arm64-cross" ;;
esac
case "${1:-}" in
"") ;;
kernels)
	packages="$packages flex bison bc libelf-dev libssl-dev dwarves
gcc-m68k-linux-gnu libc6-dev-m68k-cross qemu-system-misc"
	;;
*)
	echo "mmscope: setup-host.sh takes no argument, or kernels; not '$1'" >&2
	exit 2
	;;
esac

if ! command -v dpkg-query >/dev/null 2>&1 || ! command -v apt-get >/dev/null 2>&1; then
	echo "mmscope: this is no Debian-like system: install by hand what these packages hold:" >&2
	echo "  $(echo "$packages" | tr '\n' ' ')apt dpkg" >&2
	echo "and set MMSCOPE_MIRROR to a Debian mirror; then: mmscope doctor" >&2
	exit 0
fi

missing=""
for package in $packages; do
	case "$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)" in
	"install ok installed") continue ;;
	esac
	# A Python of one's own brings venv along.
	if [ "$package" = python3-venv ] && "${PYTHON:-python3}" -c 'import ensurepip' 2>/dev/null; then
		continue
	fi
	missing="$missing $package"
done
[ -n "$missing" ] || exit 0

as_root=""
if [ "$(id -u)" != 0 ]; then
	if command -v sudo >/dev/null 2>&1 && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
		as_root="sudo"
	else
		echo "mmscope: packages are missing and this user may not install them. Type as root:" >&2
		echo "  apt-get update && apt-get install -y --no-install-recommends$missing" >&2
		exit 1
	fi
fi
echo "mmscope: installing$missing" >&2
$as_root apt-get -q update >&2
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends $missing >&2
