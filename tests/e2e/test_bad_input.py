"""Bad input and bad machines: one clear line, the exit code of the cause, and nothing lost."""

import hashlib
import os
import socket
import subprocess
import time
from contextlib import contextmanager, suppress

import pytest

from ptm_dist.events import read_events, steps_of
from ptm_dist.train.committed import list_checkpoints
from ptm_dist.train.launch import launch
from tests.tiny import TEXT, command, ptm

LOCAL = ("--launcher", "local")


def refused(result, exit_code, *words):
    """Check that a command ended with one error line, its code explained, and no traceback."""
    assert result.returncode == exit_code, result.stderr
    assert "Traceback" not in result.stderr
    error, explanation = result.stderr.strip().splitlines()[-2:]
    assert explanation.startswith(f"exit {exit_code}: ")
    for word in words:
        assert word in error, error


def contents(directory):
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def test_an_unknown_key_gets_the_nearest_name(make_run):
    run, recipe = make_run()
    refused(ptm("train", recipe, "optimizer.learing_rate=1e-3", "--run", run.path), 20, "optimizer.learing_rate", "learning_rate")


def test_a_missing_recipe_is_named(tmp_path):
    refused(ptm("run", tmp_path / "none.yaml"), 20, "none.yaml")


def test_a_missing_text_file_is_named(make_run, tmp_path):
    _, recipe = make_run()
    result = ptm("data", "prepare", recipe, "--text", tmp_path / "absent.txt", "--run", tmp_path / "new", "--cache", tmp_path / "cache")
    refused(result, 31, "absent.txt")


def test_a_file_that_is_not_utf8_is_named(make_run, tmp_path):
    _, recipe = make_run()
    (tmp_path / "latin.txt").write_bytes("caf\u00e9 ".encode("latin-1") * 200)
    result = ptm("data", "prepare", recipe, "--text", tmp_path / "latin.txt", "--run", tmp_path / "new", "--cache", tmp_path / "cache")
    refused(result, 31, "latin.txt", "UTF-8")


def test_an_empty_corpus_says_what_to_do(make_run, tmp_path):
    _, recipe = make_run()
    (tmp_path / "empty.txt").write_text("")
    result = ptm("data", "prepare", recipe, "--text", tmp_path / "empty.txt", "--run", tmp_path / "new", "--cache", tmp_path / "cache")
    refused(result, 31)


def test_a_corrupt_shard_is_named_and_nothing_of_it_is_used(make_run, tmp_path):
    run, recipe = make_run()
    shard = next(run.data().datasets["mlm"]["train"].glob("*.tar"))
    good = shard.read_bytes()
    damaged = bytearray(good)
    for at in range(600, len(good), 1500):
        damaged[at] ^= 1
    shard.write_bytes(bytes(damaged))
    try:
        refused(ptm("train", recipe, "--run", run.path, *LOCAL), 30, shard.name)
        assert not steps_of(run.events_path)
        refused(ptm("data", "verify", run.path), 30, shard.name)
    finally:
        shard.write_bytes(good)
    assert ptm("data", "verify", run.path).returncode == 0


def test_a_missing_shard_is_named(make_run):
    run, recipe = make_run()
    shard = next(run.data().datasets["mlm"]["train"].glob("*.tar"))
    hidden = shard.rename(shard.with_suffix(".hidden"))
    try:
        refused(ptm("train", recipe, "--run", run.path, *LOCAL), 30, shard.name, "missing")
    finally:
        hidden.rename(shard)


def test_a_metrics_port_in_use_is_named(make_run):
    run, recipe = make_run()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused(ptm("train", recipe, f"metrics.port={port}", "--run", run.path, *LOCAL), 20, str(port), "metrics.port")
    assert not steps_of(run.events_path)


def test_a_run_directory_of_another_recipe_is_left_alone(make_run):
    run, recipe = make_run()
    before = contents(run.path)
    refused(ptm("train", recipe, "optimizer.learning_rate=1e-5", "--run", run.path, *LOCAL), 22, "optimizer.learning_rate", "--run")
    assert contents(run.path) == before


def test_a_run_directory_in_use_is_left_alone(make_run):
    run, recipe = make_run()
    with run.owned("driver"):
        before = contents(run.path)
        started_at = time.monotonic()
        refused(ptm("train", recipe, "--run", run.path, *LOCAL), 21, str(run.path))
        assert contents(run.path) == before
        assert time.monotonic() - started_at < 60


def test_a_loss_that_is_not_finite_ends_the_run_without_touching_the_weights(make_run):
    run, recipe = make_run(optimizer={"learning_rate": 1e30, "schedule": {"kind": "constant", "warmup_steps": 1}}, engine={"workers": 1})
    refused(ptm("train", recipe, "--run", run.path, *LOCAL), 50, "optimizer.learning_rate")
    skipped = [event for event in read_events(run.events_path, "step") if event["skipped"]]
    assert len(skipped) == 10


@contextmanager
def small_disk(path, *options):
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(path)], capture_output=True, check=False).returncode:
        pytest.skip("mounting needs root")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_full_disk_stops_the_run_and_keeps_what_was_committed(make_run, tmp_path):
    run, recipe = make_run(engine={"workers": 1}, checkpoint={"every_steps": 2})
    with small_disk(tmp_path / "disk", "size=6m") as disk:
        (disk / "run").mkdir()
        for name in ("recipe.json", "data.json"):
            (disk / "run" / name).write_bytes((run.path / name).read_bytes())
        ballast = disk / "ballast"
        launch_until_saved(disk / "run", recipe, ballast)
        kept = [info.step for info in list_checkpoints(disk / "run" / "checkpoints")]
        assert kept, "what was committed before is still there"
        assert not list((disk / "run" / "checkpoints").glob(".stage-*"))
        ballast.unlink()
        assert ptm("train", recipe, "--run", disk / "run", *LOCAL).returncode == 0, "with space again the same command goes on"


def launch_until_saved(run, recipe, ballast):
    """Train until a checkpoint is there, then fill the disk and see the run end with the cause."""
    process = subprocess.Popen(command("train", recipe, "--run", run, *LOCAL), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not list_checkpoints(run / "checkpoints") and process.poll() is None:
        time.sleep(0.005)
    descriptor = os.open(ballast, os.O_WRONLY | os.O_CREAT)
    with suppress(OSError):
        while True:
            os.write(descriptor, b"\0" * 4096)
    os.close(descriptor)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 41, errors
    assert "disk is full" in errors
    assert "Traceback" not in errors


def test_a_read_only_disk_is_named(make_run, tmp_path):
    _, recipe = make_run()
    with small_disk(tmp_path / "disk", "ro", "size=1m") as disk:
        refused(ptm("train", recipe, "--run", disk / "run", *LOCAL), 41, "read-only")


def test_text_of_ones_own_takes_many_words_after_one_option(make_run, tmp_path):
    _, recipe = make_run()
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "a.jsonl").write_bytes(TEXT.read_bytes())
    (tmp_path / "more.jsonl").write_bytes(TEXT.read_bytes().replace(b"harbour", b"village"))
    result = ptm(
        "data", "prepare", recipe, "--run", tmp_path / "own", "--cache", tmp_path / "cache", "--text", notes, tmp_path / "more.jsonl"
    )
    assert result.returncode == 0, result.stderr
    assert "mlm.train" in result.stdout


def test_launch_in_this_process_gives_the_cause_too(make_run):
    from ptm_dist.errors import ConfigError

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        run, _ = make_run(metrics={"port": taken.getsockname()[1]})
        with pytest.raises(ConfigError, match=r"metrics\.port"):
            launch(run, run.next_attempt(), 2)
