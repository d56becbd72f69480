#!/bin/bash
# Runs a command with ROS 2 and the package sourced.
set -e
. /opt/ddvla/setup.bash
exec "$@"
