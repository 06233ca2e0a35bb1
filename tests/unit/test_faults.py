"""Planned faults: refused outside tests, exact inside them."""

import errno
import json
import os
import signal
import subprocess
import sys

import pytest

from ptm_dist import faults
from ptm_dist.errors import ConfigError

KILL = {"point": "here", "action": "kill"}


@pytest.fixture
def armed(monkeypatch):
    """Return a function that arms a plan in this process."""

    def arm(*plan, rank="0"):
        for name, value in {"PTM_FAULTS": json.dumps(plan), "PTM_TESTING": "1", "RANK": rank}.items():
            monkeypatch.setenv(name, value)
        faults._plan.cache_clear()
        faults._happened.clear()

    yield arm
    monkeypatch.undo()
    faults._plan.cache_clear()
    faults._happened.clear()


def full(point, step=None):
    try:
        faults.reached(point, step)
    except OSError as error:
        return error.errno == errno.ENOSPC
    return False


def test_nothing_happens_without_a_plan():
    assert faults.read_plan({}) == ()
    assert not full("here", 1)


def test_a_plan_outside_a_test_is_refused():
    for flag in ({}, {"PTM_TESTING": "0"}):
        with pytest.raises(ConfigError, match="PTM_TESTING=1 is not set"):
            faults.read_plan({"PTM_FAULTS": json.dumps([KILL])} | flag)


@pytest.mark.parametrize(
    "plan",
    ["{", "{}", '[{"point": "here"}]', '[{"point": "here", "action": "explode"}]', '[{"point": "a", "action": "kill", "ranks": 1}]',
     '[{"point": "a", "action": "kill", "step": "8"}]', '[{"point": "a", "action": "kill", "count": 0}]'],
)  # fmt: skip
def test_a_plan_that_cannot_be_read_is_refused(plan):
    with pytest.raises(ConfigError, match="PTM_FAULTS: "):
        faults.read_plan({"PTM_FAULTS": plan, "PTM_TESTING": "1"})


def test_a_fault_happens_at_its_point_step_and_rank_as_often_as_planned(armed):
    armed({"point": "here", "action": "raise_enospc", "rank": 1, "step": 8, "count": 2}, rank="1")
    assert [full("there", 8), full("here", 7), full("here")] == [False, False, False]
    assert [full("here", 8) for _ in range(4)] == [True, True, False, False]


def test_other_ranks_are_spared(armed):
    armed({"point": "here", "action": "raise_enospc", "rank": 1}, rank="0")
    assert not full("here", 8)


def test_a_rank_or_step_left_out_means_any(armed):
    armed({"point": "here", "action": "raise_enospc"}, rank="3")
    assert full("here", 5)


def test_the_log_proves_what_happened_and_spares_a_restarted_process(tmp_path):
    log = tmp_path / "faults.jsonl"
    script = "from ptm_dist.faults import reached; reached('here', 4); print('alive')"
    environment = {"PTM_FAULTS": json.dumps([KILL]), "PTM_TESTING": "1", "PTM_FAULTS_LOG": str(log), "RANK": "2"}
    codes = [subprocess.run([sys.executable, "-c", script], check=False, env=environment).returncode for _ in range(2)]
    assert codes == [-signal.SIGKILL, 0]
    assert [json.loads(line) for line in log.read_text().splitlines()] == [{"fault": 0, "point": "here", "rank": 2, "step": 4}]


def test_a_stopped_process_can_be_continued():
    environment = {"PTM_FAULTS": json.dumps([{"point": "here", "action": "stop"}]), "PTM_TESTING": "1"}
    script = "from ptm_dist.faults import reached; reached('here')"
    with subprocess.Popen([sys.executable, "-c", script], env=environment) as process:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        process.send_signal(signal.SIGCONT)
        assert process.wait(timeout=30) == 0
