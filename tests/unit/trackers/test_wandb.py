"""Weights & Biases has one run over all attempts, and hears of each step once: a stand-in of its interface, and itself offline."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ptm_dist.trackers.wandb import WandB
from tests.unit.trackers.story import KILLED, SAVED, TOTAL, attempt_of, ledger, live_through, loss, make_run


class Server:
    """Keeps runs by id, as the signatures of wandb 0.31 say: steps never go back. Offline, each attempt has a history of its own."""

    def __init__(self):
        self.histories, self.inits, self.ends = [], [], []

    def init(self, *, project, entity, mode, id, resume, name, dir, config, allow_val_change, save_code, settings):
        self.inits.append({"project": project, "entity": entity, "mode": mode, "id": id, "resume": resume, "name": name})
        assert not save_code
        assert settings["disable_git"]
        assert settings["disable_code"]
        assert settings["console"] == "off"
        self.config = config
        if mode == "offline" or not self.histories:
            self.histories.append({})
        history = self.histories[-1]
        folder = Path(dir) / "wandb" / f"{mode}-run-{len(self.inits)}-{id}" / "files"
        folder.mkdir(parents=True)

        def log(data, step=None, commit=None):
            if step < max(history, default=0):
                raise AssertionError(f"step {step} comes after {max(history)}, and wandb would drop it with a warning")
            history.setdefault(step, {}).update(data)

        next_step = max(history) + 1 if history else 0
        return SimpleNamespace(log=log, finish=lambda exit_code=None: self.ends.append(exit_code), dir=str(folder), step=next_step)


@pytest.fixture
def server(monkeypatch):
    made = Server()
    monkeypatch.setitem(sys.modules, "wandb", made)
    return made


def losses(history):
    return {done: values["loss/mlm"] for done, values in history.items() if "loss/mlm" in values}


def held_out(history):
    return [done for done, values in history.items() if "held_out/mlm/masked_lm/loss" in values]


def check_inits(server, mode, resume):
    assert len({init["id"] for init in server.inits}) == 1, "one run"
    assert [(init["mode"], init["resume"], init["project"], init["entity"]) for init in server.inits] == [(mode, resume, "p", "e")] * 2
    assert server.ends == [0], "the first attempt was killed"
    assert "sources" not in server.config


def test_online_all_attempts_are_one_run_and_the_first_word_stays(tmp_path, server):
    live_through(WandB(every_steps=1, project="p", entity="e", mode="online"), make_run(tmp_path))
    (history,) = server.histories
    assert losses(history) == {done: loss(done - 1, 1 if done <= KILLED else 2) for done in range(1, TOTAL + 1)}
    assert held_out(history) == [0, 20, 40]
    check_inits(server, "online", "allow")


def test_online_what_the_server_never_got_is_told_when_it_comes_again_or_from_the_log(tmp_path, server):
    run = make_run(tmp_path)
    settings = WandB(every_steps=1, mode="online")
    tracker = settings.open(run)
    for event in attempt_of(run, 1, 0, KILLED):
        tracker.observe(event)
    for done in range(13, KILLED + 1):  # They were on their way when the process was killed.
        server.histories[0].pop(done)
    tracker = settings.open(run)
    for event in attempt_of(run, 2, SAVED, TOTAL):
        tracker.observe(event)
    assert losses(server.histories[0]) == ledger(run)


def test_offline_the_folder_of_a_killed_attempt_is_set_aside_and_its_steps_are_told_again(tmp_path, server):
    run = make_run(tmp_path)
    live_through(WandB(every_steps=1, project="p", entity="e"), run)
    lost, kept = server.histories
    assert losses(kept) == ledger(run)
    assert held_out(kept) == [0, 20, 40]
    check_inits(server, "offline", None)
    folders = sorted(path.name.partition("-run-")[0] for path in (tmp_path / "wandb").iterdir())
    assert folders == ["lost-offline", "offline"], "what is synced holds each step once"
    assert lost, "it was told something"


def test_offline_an_attempt_that_ended_in_order_is_gone_on_with(tmp_path, server):
    run, settings = make_run(tmp_path), WandB(every_steps=1, project="p", entity="e")
    for number, start, stop in ((1, 0, KILLED), (2, SAVED, TOTAL)):  # Stopped by an error after its last checkpoint.
        tracker = settings.open(run)
        for event in attempt_of(run, number, start, stop):
            tracker.observe(event)
        tracker.close()
    first, second = server.histories
    assert losses(first) == {done: loss(done - 1, 1) for done in range(1, KILLED + 1)}
    assert losses(second) == {done: loss(done - 1, 2) for done in range(KILLED + 1, TOTAL + 1)}
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 2
    assert server.ends == [1, 0]


ATTEMPT = """
import os, sys
from pathlib import Path
from ptm_dist.run import RunFolder
from ptm_dist.trackers.wandb import WandB
from tests.unit.trackers.story import attempt_of

run, number, start, stop = RunFolder(Path(sys.argv[1])), *map(int, sys.argv[2:])
tracker = WandB(every_steps=1).open(run)
for event in attempt_of(run, number, start, stop):
    tracker.observe(event)
if stop < 40:
    os.kill(os.getpid(), 9)
tracker.close()
"""


@pytest.mark.slow
def test_the_real_package_goes_on_offline_and_asks_nobody(tmp_path):
    pytest.importorskip("wandb", reason="wandb is not installed")
    run = make_run(tmp_path / "run")
    environment = os.environ | {
        "WANDB_BASE_URL": "http://127.0.0.1:9",
        "WANDB_CONFIG_DIR": str(tmp_path / "home"),
        "PYTHONPATH": os.getcwd(),
    }
    codes = [
        subprocess.run([sys.executable, "-c", ATTEMPT, run.path, *words], env=environment, timeout=100, check=False).returncode
        for words in (["1", "0", str(KILLED)], ["2", str(SAVED), str(TOTAL)])
    ]
    assert codes == [-9, 0]
    found = sorted((tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(found) == 1, "that of the killed attempt holds nothing to rely on"
    assert found[0].stat().st_size > 5000
    (lost,) = (tmp_path / "run" / "wandb").glob("lost-offline-run-*/run-*.wandb")
    assert lost.name == found[0].name, "of one run"
