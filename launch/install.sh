#!/usr/bin/env bash
# Make a virtual environment and install the package with the pinned versions. Usage: install.sh VENV ".[dev]"
set -euo pipefail
venv=$1 what=$2

say() { echo "install: $*" >&2; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3.11 python3.12 python3; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    say "Python 3.11 or 3.12 is needed, found: $(python3 --version 2>&1 || echo none). Install one, or name it: make PYTHON=/path/to/python3.11"
    exit 1
}

free_kib=$(df -Pk . | awk 'NR == 2 { print $4 }')
if [ "$free_kib" -lt $((4 * 1024 * 1024)) ]; then
    say "4 GiB of free disk are needed here, found $((free_kib / 1024)) MiB. Free some space, or clone to another disk."
    exit 1
fi

if ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
    python=$(find_python)
    say "making $venv with $("$python" --version)"
    if ! "$python" -m venv --clear "$venv"; then
        say "the venv module failed. On Debian and Ubuntu: apt-get install python3-venv"
        exit 1
    fi
fi
say "installing ptm_dist (about 2 GB with torch for the CPU; a few minutes)"
"$venv/bin/python" -m pip install --quiet --constraint constraints.txt "setuptools>=77" wheel
# DeepSpeed comes as source; building it needs torch for nothing, but imports it when it is there.
"$venv/bin/python" -m pip install --quiet --constraint constraints.txt --editable "$what"
say "done"
