#!/bin/sh
# Puts promtool, which tries the alert rules of the fleet, into .venv/bin: out of Debian's or Ubuntu's package prometheus,
# whose server is not installed. Nothing but a test needs it. usage: scripts/promtool.sh
set -eu
command -v promtool >/dev/null 2>&1 && exit 0
[ -d .venv/bin ] || { echo "promtool: no .venv here; make setup first" >&2; exit 1; }
if ! command -v apt-get >/dev/null 2>&1 || ! command -v dpkg-deb >/dev/null 2>&1; then
    echo "promtool: needs apt and dpkg; elsewhere install Prometheus by hand" >&2
    exit 1
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
(cd "$folder" && apt-get -qq download prometheus && dpkg-deb -x prometheus_*.deb unpacked)
cp "$folder/unpacked/usr/bin/promtool" .venv/bin/promtool
.venv/bin/promtool --version | head -n 1
