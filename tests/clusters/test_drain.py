"""What a pod does before it goes: the driver is asked once and waited for; a node gives notice and waits for its attempt."""

import json
import os
import subprocess
import sys
import threading
import time

from ptm_dist.clusters.drain import drain_head, drain_node
from ptm_dist.kept import kept_words, note_of
from ptm_dist.store import read_json

DRIVER = """
import signal, sys, time
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1) or print("asked", len(asked), flush=True))
print("ready", flush=True)
while not asked:
    time.sleep(0.05)
time.sleep(1)
sys.exit(10)
"""


def event(run, kind, attempt):
    with (run / "supervision.jsonl").open("a") as file:
        file.write(json.dumps({"event": kind, "attempt": attempt, "time": time.time()}) + "\n")


def test_the_driver_is_asked_once_and_waited_for(tmp_path):
    log = tmp_path / "logs" / "driver-tiny-a1.log"
    keeper = subprocess.Popen(
        kept_words(sys.executable, str(tmp_path), "tiny-a1", [sys.executable, "-c", DRIVER]), stdout=subprocess.DEVNULL
    )
    while not log.exists() or "ready" not in log.read_text():
        time.sleep(0.05)
    assert drain_head(tmp_path, seconds=60)
    assert keeper.wait(30) == 10
    assert log.read_text().splitlines()[1:2] == ["asked 1"]
    assert "asked 2" not in log.read_text()
    assert drain_head(tmp_path, seconds=60), "a driver that has ended is nothing to wait for"


def test_a_driver_that_does_not_end_in_time_is_not_waited_for_any_longer(tmp_path):
    deaf = "import signal, time; signal.signal(15, lambda *_: 0); print(1, flush=True); time.sleep(60); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE)
    try:
        process.stdout.readline()
        note = {"host": os.uname().nodename, "driver": note_of(process.pid), "keeper": note_of(os.getpid()), "exit_code": None}
        (tmp_path / "logs").mkdir()
        (tmp_path / "logs" / "driver-tiny-a1.json").write_text(json.dumps(note))
        assert not drain_head(tmp_path, seconds=0.5)
        assert read_json(tmp_path / "logs" / "driver-tiny-a1.json")["exit_code"] is None
    finally:
        process.kill()
        process.wait()


def test_a_node_gives_notice_and_waits_until_its_attempt_has_ended(tmp_path):
    event(tmp_path, "attempt_placed", 1)
    event(tmp_path, "attempt_ended", 1)
    event(tmp_path, "attempt_placed", 2)
    given = []

    def saves(seconds):
        given.append(seconds)
        threading.Timer(1.0, event, (tmp_path, "attempt_ended", 2)).start()

    assert drain_node(tmp_path, 60, saves)
    assert given == [60]
    assert '"attempt": 2' in (tmp_path / "supervision.jsonl").read_text().splitlines()[-1]


def test_a_node_without_an_attempt_goes_at_once_and_one_whose_attempt_hangs_goes_in_the_end(tmp_path):
    assert drain_node(tmp_path, 60, lambda _: None)
    event(tmp_path, "attempt_placed", 1)
    assert not drain_node(tmp_path, 0.6, lambda _: None)
