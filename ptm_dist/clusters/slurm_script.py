"""The batch script of a Slurm job: what differs between jobs stands in its first part, in variables; the rest is the same for all."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ptm_dist.clusters.base import Job
from ptm_dist.clusters.grace import grace_seconds
from ptm_dist.kept import kept_path
from ptm_dist.recipe import Recipe

if TYPE_CHECKING:
    from ptm_dist.clusters.slurm import Slurm

SIGNAL_SECONDS: Final = 300
"""How long before the limit a job is told, where nothing has been measured."""

LINT: Final = "# shellcheck disable=SC1091,SC2329 # What `setup` reads is not here; the functions are called by traps."
SIGNALS: Final = """\
# Slurm signals this script alone. The driver gets one SIGTERM, however many signals come: it finishes the step, saves, and exits with 10.
driver="" asked="" told="" cancelled="" signals=0
tell() {
    if [ -n "$driver" ] && [ -n "$asked" ] && [ -z "$told" ]; then
        told=1
        kill -TERM "$driver" || true
    fi
}
ask() {
    signals=$((signals + 1))
    if [ -z "$asked" ]; then
        asked=$1
        echo "slurm: signal $1, the driver is asked to save and stop" >&2
        tell
        # Slurm is ending the job already: somebody has cancelled it, so it must not come back. What Slurm requeues comes back by itself.
        case $(scontrol --oneliner show job "$SLURM_JOB_ID") in *" JobState=COMPLETING "* | *" JobState=CANCELLED "*) cancelled=true ;; esac
    fi
}
"""

FOLLOW_UP: Final = """\
rm -f "$folder/exit_code"
grep -qx "$SLURM_JOB_ID" "$folder/jobs" 2> /dev/null || echo "$SLURM_JOB_ID" >> "$folder/jobs"
# Where requeue is forbidden, a job of the same name waits until this one has ended, however it ends, and goes on.
follow_up=""
if [ "$requeue" = false ] && [ "$(wc -l < "$folder/jobs")" -lt "$most_jobs" ]; then
    follow_up=$(sbatch --parsable --dependency=singleton "$0" "$@" < /dev/null) || echo "slurm: no job follows this one" >&2
    follow_up=${follow_up%%;*}
    [ -z "$follow_up" ] || echo "$follow_up" >> "$folder/jobs"
fi
"""

RAY: Final = """\
# One Ray for this allocation: ports and folder are its own, and at the end exactly these steps are ended.
address=$(getent ahostsv4 "$SLURMD_NODENAME" | awk 'NR == 1 { print $1 }')
case $address in "" | 127.*) address=$(hostname -I | awk '{ print $1 }') ;; esac
blocks=$(((last_port - first_port + 1) / ports_of_job))
port=$((first_port + SLURM_JOB_ID % blocks * ports_of_job))
RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \\n')
export RAY_AUTH_MODE RAY_AUTH_TOKEN RAY_ADDRESS="$address:$port"
ports=(
    --node-manager-port=$((port + 1)) --object-manager-port=$((port + 2)) --dashboard-agent-listen-port=$((port + 3))
    --dashboard-agent-grpc-port=$((port + 4)) --runtime-env-agent-port=$((port + 5)) --metrics-export-port=$((port + 6))
    --min-worker-port=$((port + 10)) --max-worker-port=$((port + ports_of_job - 1))
)
start_step() {
    local nodes=$1
    shift
    srun --overlap --kill-on-bad-exit=0 --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1 --cpus-per-task="$cpus_per_task" "$@" \\
        "${ports[@]}" --num-cpus="$cpus_per_task" --num-gpus="$gpus_per_node" --disable-usage-stats &
    steps+=($!)
}
steps=()
start_step 1 --nodelist="$SLURMD_NODENAME" ray start --block --head --node-ip-address="$address" --port="$port" \\
    --dashboard-host=127.0.0.1 --dashboard-port=$((port + 7)) --ray-client-server-port=$((port + 8)) --temp-dir="$temporary"
for _ in {1..60}; do
    ! ray status --address "$RAY_ADDRESS" 2> /dev/null | grep -q " node_" || break # Its head has registered itself.
    kill -0 "${steps[0]}" 2> /dev/null || break # The driver will say that there is no Ray.
    sleep 2
done
start_step $((SLURM_JOB_NUM_NODES - 1)) --exclude="$SLURMD_NODENAME" ray start --block --address="$RAY_ADDRESS"
"""

END_RAY: Final = """\
kill -TERM "${steps[@]}" 2> /dev/null || true
wait "${steps[@]}" || true
srun --overlap --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" rm -rf -- "$temporary" || true
"""

DRIVER: Final = """\
code=11
if [ -z "$asked" ]; then
    "${train[@]}" &
    driver=$!
    tell
    code=127
    while :; do
        before=$signals
        wait "$driver" && now=0 || now=$?
        [ "$now" -eq 127 ] || code=$now
        [ "$before" -ne "$signals" ] || break # Otherwise a signal ended the wait, not the driver.
    done
fi
echo "$code" > "$folder/exit_code"
"""

END: Final = """\
again=false
case $code in 10 | 11 | 130 | 143) [ -z "$asked" ] || [ -n "$cancelled" ] || [ -e "$folder/stop" ] || again=true ;; esac
if [ "$again" = true ] && [ "$requeue" = true ]; then
    echo "slurm: the same job goes on later" >&2
    scontrol requeue "$SLURM_JOB_ID" || echo "slurm: it may not be requeued here; set requeue: false in the cluster file" >&2
elif [ "$again" = false ] && [ -n "$follow_up" ]; then
    scancel "$follow_up"
fi
exit "$code"
"""


def script_of(cluster: Slurm, job: Job | None) -> str:
    """Return the batch script of a job, or one that takes recipe, run and cluster file as its words."""
    many = cluster.nodes > 1
    parts = [
        "\n".join(["#!/bin/bash", *(f"#SBATCH {option}" for option in _directives(cluster, job)), LINT]) + "\n",
        _environment(cluster),
        _variables(cluster, job),
        SIGNALS + "".join(f"trap 'ask {name}' {name}\n" for name in dict.fromkeys((cluster.signal, "TERM"))),
        FOLLOW_UP,
        *([RAY] if many else []),
        DRIVER,
        (END_RAY if many else 'rm -rf -- "$temporary"\n') + END,
    ]
    return "\n".join(parts)


def folder_of(job: Job) -> Path:
    """Return where a submission keeps its recipe, its cluster, the numbers of its jobs and the exit code of the last."""
    return Path(job.run).absolute() / "logs" / f"submission-{job.submission}"


def log_of(job: Job) -> Path:
    """Return where batch script and driver of a submission print."""
    return kept_path(Path(job.run).absolute(), job.id)


def _directives(cluster: Slurm, job: Job | None) -> Iterator[str]:
    seconds = cluster.signal_seconds or (grace_seconds(job.run, SIGNAL_SECONDS) if job else SIGNAL_SECONDS)
    yield f"--job-name={job.id if job else cluster.name}"
    yield from (f"--partition={cluster.partition}",) if cluster.partition else ()
    yield from (f"--account={cluster.account}",) if cluster.account else ()
    yield from (f"--nodes={cluster.nodes}", "--ntasks-per-node=1", f"--cpus-per-task={cluster.cpus_per_task}", f"--mem={cluster.memory}")
    yield from (f"--gpus-per-node={cluster.gpus_per_node}",) if cluster.gpus_per_node else ()
    yield from (f"--time={cluster.time}", f"--signal=B:{cluster.signal}@{seconds}", "--requeue" if cluster.requeue else "--no-requeue")
    yield from ("--open-mode=append", f"--output={log_of(job) if job else '%x-%j.out'}")
    # What the shell of the submitter holds, its secrets among it, stays there; `setup` and `environment` say what the job has.
    yield "--export=HOME,USER,LOGNAME,LANG"
    yield from cluster.options


def _environment(cluster: Slurm) -> str:
    lines = ["set -e", *cluster.setup, "set -u", "export SLURM_EXPORT_ENV=ALL OMP_NUM_THREADS=1 RAY_USAGE_STATS_ENABLED=0"]
    return "\n".join(lines + [f"export {name}={shlex.quote(value)}" for name, value in sorted(cluster.environment.items())]) + "\n"


def _variables(cluster: Slurm, job: Job | None) -> str:
    lines = _job_variables(cluster, job) if job else _word_variables(cluster)
    lines += [f"requeue={str(cluster.requeue).lower()} most_jobs={cluster.most_jobs}"]
    if cluster.nodes > 1:
        lines += [f"cpus_per_task={cluster.cpus_per_task} gpus_per_node={cluster.gpus_per_node}"]
        lines += [f"first_port={cluster.first_port} last_port={cluster.last_port} ports_of_job={cluster.ports_of_job}"]
    lines += [f'temporary={shlex.quote(cluster.temporary)}/ptm-"$SLURM_JOB_ID"', 'export RAY_TMPDIR="$temporary"']
    return "\n".join([*lines, 'mkdir -p "$folder" "$temporary"']) + "\n"


def _job_variables(cluster: Slurm, job: Job) -> list[str]:
    here = cluster.model_copy(update={"cache": str(Path(cluster.cache).absolute())})
    folder = folder_of(job)
    there = Job(job.recipe, str(Path(job.run).absolute()), job.submission)
    words = here.entrypoint(there, f"{folder}/recipe.json", f"{folder}/cluster.json")
    return [f"folder={shlex.quote(str(folder))}", f"train=({shlex.join([*words, *_launcher(cluster)])})"]


def _word_variables(cluster: Slurm) -> list[str]:
    words = cluster.entrypoint(Job(Recipe.model_construct(), "RUN"), "RECIPE", "CLUSTER")
    names = {"RECIPE": '"$recipe"', "RUN": '"$run"', "CLUSTER": '"$cluster"'}
    told = " ".join(names.get(word, shlex.quote(word)) for word in [*words, *_launcher(cluster)])
    return [
        'usage="sbatch train.sbatch RECIPE RUN CLUSTER_FILE"',
        "recipe=${1:?$usage} run=${2:?$usage} cluster=${3:?$usage}",
        'folder="$run/logs/submission-$SLURM_JOB_ID"',
        f"train=({told})",
    ]


def _launcher(cluster: Slurm) -> list[str]:
    """A single node needs no Ray for its workers."""
    return ["--launcher", "ray" if cluster.nodes > 1 else "local"]
