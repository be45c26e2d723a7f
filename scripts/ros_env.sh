# The ROS 2 workspace that `make ros` built, in this shell: . scripts/ros_env.sh
# Bash and zsh find the repository from this file's path, other shells must be in its root. It sets what `. install/setup.bash`
# sets on a robot (AMENT_PREFIX_PATH, PATH, PYTHONPATH, LD_LIBRARY_PATH) and puts .venv first in PATH. Not needed for
# `import rclpy, robin_msgs.msg` with .venv/bin/python: that works without.
if [ -n "${BASH_VERSION:-}" ]; then
    # shellcheck disable=SC3028,SC3054
    _robin_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
elif [ -n "${ZSH_VERSION:-}" ]; then
    # shellcheck disable=SC2296
    eval '_robin_root=$(cd "$(dirname "${(%):-%x}")/.." && pwd)'
else
    _robin_root=$PWD
fi
if [ -e "$_robin_root/build/ros/install/local_setup.sh" ]; then
    if [ -z "${ROS_DISTRO:-}" ]; then
        export AMENT_PREFIX_PATH="$_robin_root/.venv"
        export PATH="$_robin_root/.venv/bin:$PATH"
        export LD_LIBRARY_PATH="$_robin_root/.venv/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    fi
    COLCON_CURRENT_PREFIX=$_robin_root/build/ros/install
    . "$COLCON_CURRENT_PREFIX/local_setup.sh"
    unset COLCON_CURRENT_PREFIX
else
    echo "ros_env: $_robin_root has no build/ros: run make ros there (shells other than bash and zsh: in that folder)" >&2
fi
unset _robin_root
