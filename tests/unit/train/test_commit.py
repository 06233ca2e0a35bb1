"""Checkpoints: what is saved is chosen again, by all ranks; what is kept and what goes."""

import json
import shutil
import subprocess
import sys

import pytest
from commit_ranks import flip, full_disk, latest_step, names, on_all_ranks, remove, save, store_of, writer

from ptm_dist.errors import ConfigError
from ptm_dist.train import committed
from ptm_dist.train.commit import Alone, CheckpointStore, list_checkpoints, pin


def test_a_new_run_has_no_checkpoint_and_looking_makes_no_directory(tmp_path):
    store = CheckpointStore(tmp_path / "checkpoints", Alone())
    store.clean()
    assert store.latest() is None
    assert (store.steps(), list_checkpoints(store.root), store.root.exists()) == ([], [], False)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_all_ranks_get_back_what_they_saved(tmp_path, world):
    def body(peers):
        store = CheckpointStore(tmp_path, peers)
        return [save(store, 8), save(store, 16), CheckpointStore(tmp_path, peers).latest(), store.steps()]

    results = on_all_ranks(world, body)
    assert all(result == results[0] for result in results)
    first, second, found, steps = results[0]
    assert (found, steps) == (second, [8, 16])
    assert (found.step, found.world, found.state) == (16, world, {"step": 16, "loss": 16.1})
    assert found.manifest["parent"] == first.digest
    assert len(found.manifest["files"]) == 2 * world
    assert json.loads((tmp_path / "LATEST.json").read_text()) == {"name": "step-000000000016", "step": 16, "digest": second.digest}


def test_a_committed_step_is_not_written_again_unless_it_is_damaged(tmp_path):
    store = store_of(tmp_path, 8)
    kept = save(store, 8, pinned="again")
    assert (kept, list_checkpoints(tmp_path)[0].pins) == (store.latest(), ("again",))
    flip(next(kept.path.glob("rank-*")), 0)
    assert save(store, 8).manifest["files"] == kept.manifest["files"]
    assert names(tmp_path, ".bad-") == [".bad-000000000008-0"]
    assert store.latest().step == 8


def test_the_advisory_pointer_is_never_believed(tmp_path):
    store_of(tmp_path, 8, 16)
    (tmp_path / "LATEST.json").write_text('{"step": 8}')
    assert latest_step(tmp_path) == 16
    (tmp_path / "LATEST.json").unlink()
    assert latest_step(tmp_path) == 16


def test_checkpoints_are_listed_with_size_age_world_and_pins(tmp_path):
    store_of(tmp_path, 8, 16)
    pin(tmp_path, 8, "best-of_all.1")
    old, new = list_checkpoints(tmp_path)
    assert (old.step, new.step, old.world, old.pins, new.pins) == (8, 16, 1, ("best-of_all.1",), ())
    assert old.bytes > 600
    assert 0 <= old.age_seconds < 60
    (old.path / committed.MANIFEST).write_text("{}")
    assert list_checkpoints(tmp_path)[0].world is None


def test_files_that_nobody_named_or_two_ranks_named_are_a_defect_and_commit_nothing(tmp_path):
    def unnamed(directory):
        return writer()(directory)[:1]

    with pytest.raises(Exception, match="are not those that the ranks named"):
        CheckpointStore(tmp_path, Alone()).save(8, unnamed, {})
    errors = on_all_ranks(2, lambda peers: CheckpointStore(tmp_path, peers).save(8, writer(0), {}))
    assert [error.exit_code for error in errors] == [70, 70]
    assert not names(tmp_path, "step-")


def test_a_defect_counts_more_than_a_full_disk(tmp_path):
    def body(peers):
        return CheckpointStore(tmp_path, peers).save(8, full_disk if peers.rank == 0 else lambda _: 1 / 0, {})

    assert [error.exit_code for error in on_all_ranks(2, body)] == [70, 70]


def test_a_defect_on_one_rank_ends_all(tmp_path):
    def body(peers):
        def broken(directory):
            raise ZeroDivisionError("no such luck")

        return CheckpointStore(tmp_path, peers).save(8, broken if peers.rank else writer(0), {})

    errors = on_all_ranks(2, body)
    assert [error.exit_code for error in errors] == [70, 70]
    assert all("worker 1: ZeroDivisionError: no such luck" in str(error) for error in errors)


@pytest.mark.parametrize("keep_last", [2, 3])
def test_the_last_and_the_pinned_are_kept(tmp_path, keep_last):
    store = CheckpointStore(tmp_path, Alone(), keep_last)
    for step in range(1, 8):
        save(store, step, pinned={2: "best", 3: "early", 4: "best"}.get(step))
    assert store.steps() == [3, 4, *range(8 - keep_last, 8)]
    assert [info.pins for info in list_checkpoints(tmp_path)][:3] == [("early",), ("best",), ()]
    assert not names(tmp_path, ".")


def test_a_pin_moves_and_needs_a_checkpoint_and_a_plain_name(tmp_path):
    store = store_of(tmp_path, 1, 2, keep_last=2)
    for step in (1, 2):
        store.pin(step, "best")
    save(store, 3)
    assert store.steps() == [2, 3]
    with pytest.raises(ConfigError, match="no checkpoint of step 1"):
        pin(tmp_path, 1, "best")
    for name in ("", "a/b", "../x", "a b"):
        with pytest.raises(ConfigError, match="letters"):
            pin(tmp_path, 2, name)


def test_fewer_than_two_cannot_be_kept(tmp_path):
    with pytest.raises(ConfigError, match="is too few"):
        CheckpointStore(tmp_path, Alone(), 1)


def test_damaged_ones_do_not_push_out_the_whole_one(tmp_path):
    store = store_of(tmp_path, 1, 2, 3)
    for step in (2, 3):
        remove(tmp_path / f"step-{step:012d}")
    store_of(tmp_path / "other", 1, 2)  # Only makes sure that stores do not share anything.
    shutil.copytree(tmp_path / "other" / "step-000000000001", tmp_path / "step-000000000001")
    save(store, 4)
    assert store.steps() == [1, 2, 3, 4]
    assert latest_step(tmp_path) == 4


def test_an_unremovable_victim_does_not_fail_the_save(tmp_path, monkeypatch):
    store = store_of(tmp_path, 1, 2)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        assert save(store, 3)
    assert store.steps() == [2, 3]
    assert len(names(tmp_path, ".trash-")) == 1
    save(store, 4)
    assert not names(tmp_path, ".trash-")


def test_a_start_clears_what_killed_attempts_left(tmp_path):
    store = store_of(tmp_path, 8)
    for name in (".stage-000000000016-aa", ".trash-000000000001-bb", ".bad-000000000004-0"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"x")
    (tmp_path / ".LATEST.json.77.tmp").write_bytes(b"x")
    on_all_ranks(2, lambda peers: CheckpointStore(tmp_path, peers).clean())
    assert names(tmp_path, ".") == [".bad-000000000004-0"]
    assert store.latest().step == 8


def test_the_protocol_does_not_load_torch():
    heavy = "import sys, ptm_dist.train.commit; sys.exit(any(name in sys.modules for name in ('torch', 'ray', 'deepspeed')))"
    assert subprocess.run([sys.executable, "-c", heavy], check=False).returncode == 0
