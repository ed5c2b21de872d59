#!/bin/sh
# Prints the first Python that is 3.11 or later and can make a virtual environment with pip in it.
# Exits with 1, and says so on standard error, if there is none.
set -eu

for name in python3.13 python3.12 python3.11 python3; do
    # Ask each one: a command of that name may be a mere shim for a version that is not there.
    if found=$("$name" -c 'import sys, venv, ensurepip
sys.version_info >= (3, 11) or sys.exit(1)
print(sys.executable)' 2>/dev/null) && [ -x "$found" ]; then
        printf '%s\n' "$found"
        exit 0
    fi
done
printf '%s\n' "moorage: needs Python 3.11 or later that can make virtual environments with pip:" \
    "  apt-get install python3-venv (Debian 12, Ubuntu 24.04 and later)" >&2
exit 1
