"""One holder at a time: whoever is dead or silent is followed, whoever lives is not, whoever comes back cannot write."""

import json
import multiprocessing
import os
import socket
import subprocess
import sys
import time

import pytest

from ptm_dist.errors import RunOwnedError
from ptm_dist.lease import held, is_live, require

QUICK = 1.2
"""Seconds a lease holds in these tests."""


def about(run, number):
    return json.loads((run / "lease" / f"{number:06d}.json").read_text())


def leave(run, number=1, **fields):
    """Put a lease of somebody else there."""
    (run / "lease").mkdir(parents=True, exist_ok=True)
    stated = {"host": "elsewhere", "pid": 1, "started": "x", "seconds": QUICK, "beat": 3} | fields
    (run / "lease" / f"{number:06d}.json").write_text(json.dumps(stated))


def test_leases_are_numbered_and_one_that_was_given_back_is_followed_at_once(tmp_path):
    with held(tmp_path) as first:
        first.require()
        assert about(tmp_path, 1)["host"] == socket.gethostname()
    assert about(tmp_path, 1)["ended"]
    with held(tmp_path) as second:
        assert (first.number, second.number) == (1, 2)


def test_a_holder_that_renews_is_not_followed(tmp_path):
    told = f"in use by process {os.getpid()} on {socket.gethostname()}"
    with held(tmp_path, QUICK), pytest.raises(RunOwnedError, match=told), held(tmp_path, QUICK):
        pass
    assert not (tmp_path / "lease" / "000002.json").exists()


def test_a_process_of_this_machine_that_has_ended_is_followed_at_once(tmp_path):
    script = "import os, sys, pathlib; from ptm_dist.lease import held; own = held(pathlib.Path(sys.argv[1])); own.__enter__(); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False).returncode == 9
    assert "ended" not in about(tmp_path, 1)
    with held(tmp_path) as lease:
        assert lease.number == 2


def test_a_process_number_that_was_given_to_another_process_is_not_the_holder(tmp_path):
    leave(tmp_path, host=socket.gethostname(), pid=os.getpid(), started="another boot 1", seconds=3600)
    with held(tmp_path) as lease:
        assert lease.number == 2


def test_another_machine_is_followed_only_after_its_silence(tmp_path):
    leave(tmp_path)
    began_at = time.monotonic()
    with held(tmp_path) as lease:
        assert lease.number == 2
    assert time.monotonic() - began_at >= QUICK


def test_a_lease_that_nobody_has_written_yet_counts_as_held(tmp_path):
    leave(tmp_path, seconds=QUICK)
    (tmp_path / "lease" / "000002.json").touch()
    helper = multiprocessing.get_context("fork").Process(target=lambda: (time.sleep(0.5), leave(tmp_path, 2, beat=1)))
    helper.start()
    with pytest.raises(RunOwnedError, match="elsewhere"), held(tmp_path):
        pass
    helper.join()


def test_who_was_followed_cannot_write_any_more_and_is_told(tmp_path):
    lost = []
    with held(tmp_path, QUICK, lambda: lost.append(True)) as lease:
        leave(tmp_path, lease.number + 1)
        with pytest.raises(RunOwnedError, match="elsewhere has taken it over"):
            lease.require()
        deadline = time.monotonic() + 20
        while not lost and time.monotonic() < deadline:
            time.sleep(0.05)
        assert lost
    assert about(tmp_path, 2)["beat"] == 3, "nothing of the new holder is touched"
    require(tmp_path / "lease", 2)


def _race(path, barrier, won, over):
    barrier.wait()
    try:
        with held(path, QUICK):
            won.put(os.getpid())
            over.wait(60)
    except RunOwnedError:
        won.put(None)


def test_of_many_who_want_the_next_lease_one_gets_it(tmp_path):
    leave(tmp_path, ended=True)
    context = multiprocessing.get_context("fork")
    barrier, won, over = context.Barrier(8), context.Queue(), context.Event()
    racers = [context.Process(target=_race, args=(tmp_path, barrier, won, over)) for _ in range(8)]
    for racer in racers:
        racer.start()
    winners = [winner for winner in (won.get(timeout=120) for _ in racers) if winner]
    over.set()
    for racer in racers:
        racer.join()
    assert len(winners) == 1


def test_whether_somebody_holds_it_is_seen_without_writing(tmp_path):
    assert not is_live(tmp_path)
    with held(tmp_path, QUICK):
        assert is_live(tmp_path)
        before = about(tmp_path, 1)
        assert is_live(tmp_path)
        assert about(tmp_path, 1) == before
    assert not is_live(tmp_path), "it was given back"
    leave(tmp_path, 2)
    assert is_live(tmp_path), "another machine, which has just written"
    path = tmp_path / "lease" / "000002.json"
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime - QUICK - 1))
    assert not is_live(tmp_path), "another machine, silent for too long"
