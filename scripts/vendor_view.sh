#!/bin/sh
# Makes anew what the page loads of other people's work: htmx as it is published, three.js bundled down to what is used.
# Needs npm and its registry. usage: scripts/vendor_view.sh
set -eu
htmx=2.0.11 three=0.187.0 esbuild=0.28.2
cd "$(dirname "$0")/.."
out=$PWD/view/robin_view/static/vendor entry=$PWD/view/vendor/three_entry.js
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-save --prefix . "htmx.org@$htmx" "three@$three" "esbuild@$esbuild"
cp node_modules/htmx.org/dist/htmx.min.js "$out/htmx.min.js"
cp "$entry" entry.js
node_modules/.bin/esbuild entry.js --bundle --minify --format=esm --legal-comments=none --outfile="$out/three.min.js"
{ printf 'htmx.min.js: htmx %s, https://htmx.org, Zero-Clause BSD\n\n' "$htmx"; cat node_modules/htmx.org/LICENSE; } >"$out/htmx.LICENSE.txt"
{ printf 'three.min.js: three.js %s, https://threejs.org, MIT\n\n' "$three"; cat node_modules/three/LICENSE; } >"$out/three.LICENSE.txt"
