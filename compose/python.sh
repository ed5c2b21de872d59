#!/bin/sh
# Prints the Python to use: $PYTHON where it is set, else the first that is 3.11 or later and can make a virtual
# environment with pip in it. Exits with 1, and says so on standard error, if there is none.
#
# The distribution's own comes first: it gets the distribution's fixes, and it was built with profiles, which
# one that was compiled by hand most often was not. An ADD takes 4 % longer with such a one.
set -eu

for name in ${PYTHON:-/usr/bin/python3 python3.13 python3.12 python3.11 python3}; do
    # Ask each one: a command of that name may be a mere shim for a version that is not there.
    if found=$("$name" -c 'import sys, venv, ensurepip
sys.version_info >= (3, 11) or sys.exit(1)
print(sys.executable)' 2>/dev/null) && [ -x "$found" ]; then
        printf '%s\n' "$found"
        exit 0
    fi
done
printf '%s\n' "moorage: needs Python 3.11 or later that can make virtual environments with pip${PYTHON:+, \
and PYTHON=$PYTHON names none}:" "  apt-get install python3-venv (Debian 12, Ubuntu 24.04 and later)" >&2
exit 1
