#!/bin/sh
# Creates .venv and installs Robin Edge into it with locked versions. Non-interactive; may be run again at any time.
# usage: scripts/setup.sh EXTRAS       EXTRAS: comma-separated extras of pyproject.toml, for example sim,train
# PYTHON: the interpreter to build the environment from (default python3).
set -eu
cd "$(dirname "$0")/.."
extras=${1:-sim}
python=${PYTHON:-python3}
venv=.venv

fail() {
    printf 'setup: %s\n' "$1" >&2
    exit 1
}

command -v "$python" >/dev/null 2>&1 || fail "$python not found: install Python 3.10 or newer, or set PYTHON"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    fail "$("$python" -V 2>&1) is too old: install Python 3.10 or newer, or set PYTHON"

sh scripts/system_packages.sh "$python" "$extras"

# A virtual environment that was copied or whose interpreter is gone cannot be repaired: make it anew.
if [ -e "$venv" ] && ! "$venv/bin/python" -c 'import pip' >/dev/null 2>&1; then
    echo "setup: $venv is broken, making it anew"
    rm -rf "$venv"
fi
if [ ! -e "$venv" ]; then
    echo "setup: creating $venv with $("$python" -V 2>&1)"
    "$python" -m venv "$venv" || fail "cannot create $venv: is the package python3-venv installed?"
fi

: >"$venv/COLCON_IGNORE" # colcon would look for packages in it

# torch from PyPI brings two gigabytes of CUDA libraries that training on a CPU has no use for. PyTorch's own index has a
# CPU build of the same version; it is asked only where it answers and no GPU is present.
index=""
case ",$extras," in
*,train,*)
    if ! command -v nvidia-smi >/dev/null 2>&1 && ! "$venv/bin/python" -c 'import torch' >/dev/null 2>&1; then
        url=https://download.pytorch.org/whl/cpu
        if "$venv/bin/python" -c "import urllib.request as r; r.urlopen('$url/torch/', timeout=8)" >/dev/null 2>&1; then
            index=$url
        fi
    fi
    ;;
esac
if [ -n "$index" ]; then
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
        --extra-index-url "$index" torch
fi

echo "setup: installing robin-edge[$extras] with the versions of constraints.txt (the first time takes a few minutes)"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[$extras]"

# Fails here, with the loader's own words, rather than in the middle of a run.
missing=$("$venv/bin/python" -c 'import cv2, onnxruntime, mujoco, open3d' 2>&1) ||
    fail "a library does not load: $(printf '%s' "$missing" | tail -n 1)"
