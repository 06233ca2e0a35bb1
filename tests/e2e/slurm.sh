#!/usr/bin/env bash
# A Slurm of one node on this machine, with munge, in a folder of its own, for as long as a command runs.
# Usage: slurm.sh FOLDER COMMAND...   The command finds SLURM_CONF in its environment. Needs slurmctld, slurmd, slurm-client and munge.
set -euo pipefail
folder=$(mkdir -p "$1" && cd "$1" && pwd)
shift
export PATH="$PATH:/usr/sbin:/sbin"
pids=()

# shellcheck disable=SC2329 # The trap calls it.
finish() {
    local code=$?
    for pid in "${pids[@]}"; do kill "$pid" 2> /dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2> /dev/null || true; done
    exit "$code"
}
trap finish EXIT

port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

user=$(id -un)
host=$(hostname -s)
mkdir -p "$folder/munge" "$folder/state" "$folder/spool"
chmod 711 "$folder/munge"
dd if=/dev/urandom of="$folder/munge/key" bs=128 count=1 status=none
chmod 600 "$folder/munge/key"
munged --foreground --force --socket="$folder/munge/socket" --key-file="$folder/munge/key" --pid-file="$folder/munge/pid" \
    --seed-file="$folder/munge/seed" --log-file="$folder/munge/log" &
pids+=($!)

cat > "$folder/slurm.conf" << END
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(port)
SlurmdPort=$(port)
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
KillWait=30
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc --all) RealMemory=$(($(awk '/MemTotal/ { print $2 }' /proc/meminfo) / 2048)) State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=1-00:00:00 State=UP
END
export SLURM_CONF="$folder/slurm.conf"
for _ in {1..50}; do [ ! -S "$folder/munge/socket" ] || break; sleep 0.1; done
slurmctld -c -D > "$folder/slurmctld.out" 2>&1 &
pids+=($!)
slurmd -c -D -N "$host" > "$folder/slurmd.out" 2>&1 &
pids+=($!)
for _ in {1..150}; do
    if sinfo --noheader --format=%T 2> /dev/null | grep -q idle; then
        "$@"
        exit
    fi
    sleep 0.2
done
echo "slurm.sh: the node is not idle after 30 s; see $folder" >&2
exit 1
