#!/usr/bin/env bash
# Install the programs of Debian that some tests want: Prometheus, Slurm, Chromium. Without them these tests are skipped.
set -euo pipefail

packages=(prometheus prometheus-alertmanager slurmctld slurmd slurm-client munge chromium)

if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
    echo "test tools: no apt-get, or not root: tests that want ${packages[*]} are skipped" >&2
    exit 0
fi
missing=0
for program in promtool prometheus-alertmanager slurmctld slurmd sbatch munged chromium; do
    command -v "$program" >/dev/null || missing=1
done
if [ "$missing" -eq 0 ]; then
    exit 0
fi
# Nothing that is installed may start by itself.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq || true
apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null ||
    echo "test tools: apt-get could not install all of ${packages[*]}; tests that want them are skipped" >&2
