import subprocess
import time
from pathlib import Path

import pytest

from ptm_dist.driver import stages
from ptm_dist.driver.stages import Stage, Task, run_stage
from ptm_dist.errors import DataIntegrityError, PeerLostError, StorageError
from ptm_dist.store import write_atomic

from . import stage_work

pytestmark = pytest.mark.usefixtures("ray_head")
STAGE = Stage("squares", 1, {"power": 2})


def squares(count=5):
    return [Task(f"{number:03d}", stage_work.square, (number,)) for number in range(count)]


def run(cache, tasks=squares, progress=lambda *_: None, **more):
    return run_stage(STAGE, tasks, cache, progress, **more)


def calls(cache):
    log = cache / "calls.log"
    return sorted(int(line) for line in log.read_text().split()) if log.exists() else []


def test_a_stage_runs_once(tmp_path):
    told = []
    first = run(tmp_path, progress=lambda *event: told.append(event))
    assert first.directory == tmp_path / f"squares-{STAGE.digest[:12]}"
    assert list(first.results.values()) == [{"square": number * number} for number in range(5)]
    assert told == [("squares", done, 5) for done in range(6)]

    def never():
        raise AssertionError("a finished stage is not planned again")

    assert run(tmp_path, never) == first
    assert calls(tmp_path) == [0, 1, 2, 3, 4]


def test_only_what_is_missing_is_done_again(tmp_path):
    directory = run(tmp_path).directory
    before = {path: path.stat().st_mtime_ns for path in directory.rglob("*") if path.is_file()}
    (directory / "tasks" / "001.json").unlink()
    (directory / "3.txt").unlink()
    (directory / "tasks" / ".002.json.77.tmp").write_bytes(b"half")
    run(tmp_path)
    assert calls(tmp_path) == [0, 1, 1, 2, 3, 3, 4]
    after = {path: path.stat().st_mtime_ns for path in directory.rglob("*") if path.is_file()}
    assert before.keys() == after.keys()
    changed = {path.name for path in before if before[path] != after[path]} - {".lock"}
    assert changed == {"001.json", "1.txt", "003.json", "3.txt", "DONE.json"}


def test_a_truncated_output_is_made_again(tmp_path):
    directory = run(tmp_path).directory
    (directory / "4.txt").write_bytes(b"1")
    run(tmp_path)
    assert (directory / "4.txt").read_text() == "16"


def test_finish_sees_all_results_and_its_files_belong_to_the_stage(tmp_path):
    def finish(directory, results):
        write_atomic(directory / "sum.txt", str(sum(found["square"] for found in results.values())).encode())
        return ["sum.txt"]

    directory = run(tmp_path, finish=finish).directory
    assert (directory / "sum.txt").read_text() == "30"
    (directory / "sum.txt").unlink()
    run(tmp_path, finish=finish)
    assert (directory / "sum.txt").exists()
    assert calls(tmp_path) == [0, 1, 2, 3, 4]


def test_the_error_of_a_task_comes_back_as_itself(tmp_path):
    with pytest.raises(DataIntegrityError) as caught:
        run(tmp_path, lambda: [*squares(), Task("bad", stage_work.refuse, ("a.jsonl, line 3",))])
    assert type(caught.value) is DataIntegrityError
    assert str(caught.value) == "a.jsonl, line 3: damaged. Copy it again."
    assert not (tmp_path / f"squares-{STAGE.digest[:12]}" / stages.DONE).exists()
    assert len(run(tmp_path).results) == 5


def test_a_defect_keeps_its_traceback(tmp_path):
    with pytest.raises(ZeroDivisionError, match="stage_work"):
        run(tmp_path, lambda: [Task("defect", stage_work.defect)])


def test_a_task_that_is_killed_again_and_again_is_a_lost_peer(tmp_path):
    with pytest.raises(PeerLostError, match="was killed"):
        run(tmp_path, lambda: [Task("die", stage_work.die)])


def test_what_is_under_way_when_a_task_fails_ends_with_its_process(tmp_path):
    """A process that was only interrupted may be in the middle of an import, and would serve the next task with half a module."""
    told = tmp_path / "pid"
    with pytest.raises(DataIntegrityError, match="the other one works"):
        run(tmp_path / "cache", lambda: [Task("long", stage_work.wait_long, (told,)), Task("refuse", stage_work.refuse_after, (told,))])
    deadline = time.monotonic() + 60
    while Path(f"/proc/{told.read_text()}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{told.read_text()}").exists()


def test_a_full_disk_is_a_storage_error(tmp_path):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(tmp_path)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here (not root?)")
    try:
        with pytest.raises(StorageError, match="the disk is full"):
            run(tmp_path, lambda: [Task("fill", stage_work.fill_disk)])
        assert not list(tmp_path.rglob("*.tmp"))
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_the_digest_follows_from_everything_that_decides_the_bytes():
    changed = [
        Stage("other", 1, {"power": 2}),
        Stage("squares", 2, {"power": 2}),
        Stage("squares", 1, {"power": 3}),
        Stage("squares", 1, {"power": 2}, ("input",)),
        Stage("squares", 1, {"power": 2}, (), ("library 2",)),
    ]
    assert len({stage.digest for stage in (STAGE, *changed)}) == 6
    assert Stage("squares", 1, {"power": 2}).digest == STAGE.digest
