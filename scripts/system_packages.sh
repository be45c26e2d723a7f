#!/bin/sh
# Makes sure that the few system packages the wheels rely on are there: installs them as root (or with a password-less
# sudo), otherwise names them in one line. With the extra dev also a browser, for the tests of the page.
# usage: scripts/system_packages.sh [PYTHON [EXTRAS]]
set -eu
python=${1:-python3}
extras=${2:-}
PATH=$PATH:/usr/sbin:/sbin

# shared library -> Debian/Ubuntu package. All but the last are loaded by open3d, even where nothing is displayed.
libraries="libusb-1.0.so.0:libusb-1.0-0 libGL.so.1:libgl1 libEGL.so.1:libegl1 libX11.so.6:libx11-6 libgomp.so.1:libgomp1"

found=$(ldconfig -p 2>/dev/null || true)
missing=""
for entry in $libraries; do
    case "$found" in
    *"${entry%%:*} "*) ;;
    *) missing="$missing ${entry##*:}" ;;
    esac
done
needs_venv=no
if [ ! -x .venv/bin/python ] && ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
    needs_venv=yes
    missing="$missing python3-venv"
fi
browser=""
case ",$extras," in
*,dev,*) command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 ||
    command -v google-chrome >/dev/null 2>&1 || browser=chromium ;;
esac
[ -n "$missing$browser" ] || exit 0

as_root=""
if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null 2>&1 && sudo -n true >/dev/null 2>&1; then as_root="sudo -n"; else as_root="no"; fi
fi
if [ "$as_root" != no ] && command -v apt-get >/dev/null 2>&1; then
    echo "setup: installing system packages:$missing $browser"
    install="$as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 install -y --no-install-recommends"
    if [ -n "$browser" ]; then # by itself, since tests do without it
        { $as_root apt-get -qq update && $install "$browser"; } >/dev/null 2>&1 ||
            echo "setup: no $browser here; tests of the page in a browser are skipped"
    fi
    [ -n "$missing" ] || exit 0
    # shellcheck disable=SC2086  # both are lists of words
    if $install $missing >/dev/null 2>&1 || { $as_root apt-get -qq update >/dev/null 2>&1 && $install $missing >/dev/null; }; then
        exit 0
    fi
fi
[ -n "$missing" ] || exit 0
echo "setup: missing system packages, please install them: sudo apt-get install -y$missing" >&2
# Without a way to make virtual environments there is no going on; the libraries may also come from elsewhere.
[ "$needs_venv" = no ]
