"""Checkpoints: a disk that is full or fails, on one rank or on all, costs the save and nothing else."""

import errno
import os
import shutil
import subprocess

import pytest
from commit_ranks import BEFORE_COMMIT, POINTS, full_disk, latest_step, names, on_all_ranks, save, store_of, writer

from ptm_dist.errors import StorageError
from ptm_dist.train import commit
from ptm_dist.train.commit import Alone, CheckpointStore


@pytest.mark.parametrize("world", [2, 3])
def test_a_full_disk_on_one_rank_aborts_all_and_the_next_save_succeeds(tmp_path, world):
    def body(peers):
        store = CheckpointStore(tmp_path, peers)
        save(store, 8)
        failed = store.save(16, full_disk if peers.rank == 1 else writer(peers.rank), {})
        between = (store.failure, store.latest().step, names(tmp_path, ".stage-"), names(tmp_path, "step-"))
        peers.gather(0)
        return failed, between, save(store, 24).step

    for failed, (reason, step, staging, final), after in on_all_ranks(world, body):
        assert (failed, step, staging, final, after) == (None, 8, [], ["step-000000000008"], 24)
        assert reason.startswith("worker 1: OSError: [Errno 28] No space left on device")


@pytest.mark.parametrize("point", POINTS)
def test_a_full_disk_at_any_point_never_costs_the_old_checkpoint(tmp_path, point, monkeypatch):
    store = store_of(tmp_path, 8, 16)

    def fail(reached, step):
        if reached == f"ckpt.{point}":
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(commit, "reached", fail)
    saved = save(store, 24)
    assert (saved is not None) == (point == "before_prune")
    assert not names(tmp_path, ".stage-")
    assert latest_step(tmp_path) == (16 if point in BEFORE_COMMIT else 24)


def test_three_failures_in_a_row_end_all_ranks_and_a_success_between_counts_anew(tmp_path):
    def body(peers):
        store = CheckpointStore(tmp_path, peers)
        bad = full_disk if peers.rank == 1 else writer(peers.rank)
        done = [save(store, step) if step == 3 else store.save(step, bad, {}) for step in range(1, 6)]
        with pytest.raises(StorageError) as failed:
            store.save(6, bad, {})
        return [found and found.step for found in done], str(failed.value)

    for steps, error in on_all_ranks(2, body):
        assert steps == [None, None, 3, None, None]
        assert "3 checkpoints in a row" in error
        assert "worker 1: OSError: [Errno 28] No space left on device" in error
    assert latest_step(tmp_path) == 3


def test_an_os_error_in_the_words_of_rust_is_a_disk_error(tmp_path):
    def write(directory):
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")

    store = CheckpointStore(tmp_path, Alone())
    assert store.save(8, write, {}) is None


def test_too_little_space_is_noticed_before_writing(tmp_path, monkeypatch):
    store = store_of(tmp_path, 8)
    monkeypatch.setattr(commit.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 719))
    assert store.save(16, pytest.fail, {}) is None  # 1.2 x 600 bytes are wanted.
    assert "a checkpoint wants 720 bytes, 719 are free" in store.failure


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 256 KiB."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting a small tmpfs needs root")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_a_disk_that_is_really_full(small_disk):
    store = CheckpointStore(small_disk / "checkpoints", Alone())
    big = writer(size=32_000)
    assert store.save(1, big, {})
    (small_disk / "filler").write_bytes(bytes(100_000))
    free = shutil.disk_usage(small_disk).free
    assert store.save(2, writer(size=60_000), {}) is None  # Enough for another of the first size, not for this one.
    assert "No space left on device" in store.failure
    assert (shutil.disk_usage(small_disk).free, store.latest().step) == (free, 1)
    (small_disk / "filler").unlink()
    assert store.save(3, writer(size=60_000), {}).step == 3
    assert latest_step(store.root) == 3


def test_a_directory_that_cannot_be_written_fails_like_a_full_disk(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    store = CheckpointStore(tmp_path / "file" / "checkpoints", Alone())
    assert save(store, 8) is None
    assert "Not a directory" in store.failure
