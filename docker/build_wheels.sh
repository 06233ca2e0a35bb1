#!/usr/bin/env bash
# Makes wheels of ptm_dist and of all that it needs, in the versions of constraints.txt.
# Usage: build_wheels.sh LOCK FOLDER [INDEX]; if the file LOCK is there, only what has a hash in it. INDEX is a further package index.
set -euo pipefail
lock=$1 folder=$2 index=${3:-}
further=()
[ -z "$index" ] || further=(--extra-index-url "$index")

if [ -f "$lock" ]; then
    python -m pip wheel --no-cache-dir --no-deps --require-hashes --wheel-dir "$folder" "${further[@]}" --requirement "$lock"
    python -m pip wheel --no-cache-dir --no-deps --wheel-dir "$folder" .
else
    python -m pip wheel --no-cache-dir --wheel-dir "$folder" --constraint constraints.txt "${further[@]}" .
fi
