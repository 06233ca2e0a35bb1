"""Checkpoints: damage of any kind is found before it is read, and all ranks take the same older one or stop."""

import errno
import os
import random
import shutil

import pytest
from commit_ranks import flip, latest_step, names, on_all_ranks, remove, save, store_of

from ptm_dist.errors import DataIntegrityError, DataUnavailableError, NoValidCheckpointError, ResumeMismatchError
from ptm_dist.train import commit, committed
from ptm_dist.train.commit import Alone, CheckpointStore, list_quarantined, verify


def test_every_flipped_bit_is_found_and_set_aside(tmp_path):
    store_of(tmp_path, 8, 16)
    newest, bits = tmp_path / "step-000000000016", random.Random(0)
    seen_by_sizes = 0
    for trial in range(210):
        path = sorted(newest.iterdir())[trial % 3]  # manifest, moments, weights
        bit = bits.randrange(path.stat().st_size * 8)
        flip(path, bit)
        seen_by_sizes += not committed.looks_whole(newest)
        store = CheckpointStore(tmp_path, Alone())
        assert store.latest().step == 8, f"bit {bit} of {path.name} was not noticed"
        assert path.name in store.rejected[0]
        aside = tmp_path / ".bad-000000000016-0"
        assert list_quarantined(tmp_path) == [aside]
        aside.rename(newest)
        flip(path, bit)
    assert seen_by_sizes == 70  # The control: without hashes, only flips of the manifest would be seen.
    assert latest_step(tmp_path) == 16


@pytest.mark.parametrize("keep", [lambda size: 0, lambda size: 1, lambda size: size // 2, lambda size: size - 1])
@pytest.mark.parametrize("name", ["rank-00000.weights", committed.MANIFEST])
def test_truncation_is_found_by_size_before_anything_is_read(tmp_path, name, keep, monkeypatch):
    store_of(tmp_path, 8, 16)
    path = tmp_path / "step-000000000016" / name
    os.truncate(path, keep(path.stat().st_size))
    hashed = []
    monkeypatch.setattr(committed, "sha256_file", lambda path, real=committed.sha256_file: hashed.append(path) or real(path))
    assert latest_step(tmp_path) == 8
    assert {path.parent.name for path in hashed} == {"step-000000000008"}


def add(path):
    (path / "rank-00001.moments").write_bytes(b"")


def add_directory(path):
    (path / "more").mkdir()


def replace_by_link(path):
    (path / "rank-00000.moments").rename(path.parent / "elsewhere")
    (path / "rank-00000.moments").symlink_to("/".join(["."] * 144 + ["../elsewhere"]))  # 300 bytes long, as the file.


def replace_by_directory(path):
    remove(path)
    (path / "rank-00000.moments").mkdir()


def remove_manifest(path):
    (path / committed.MANIFEST).unlink()


def replace_by_file(path):
    shutil.rmtree(path)
    path.write_bytes(b"not a directory")


def take_name_of_other(path):
    shutil.rmtree(path)
    shutil.copytree(path.with_name("step-000000000008"), path)


DAMAGES = [remove, add, add_directory, replace_by_link, replace_by_directory, remove_manifest, replace_by_file, take_name_of_other]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("world", [1, 3])
def test_a_wrong_set_of_files_is_damage_and_all_ranks_take_the_older_one(tmp_path, damage, world):
    store_of(tmp_path, 8, 16)
    damage(tmp_path / "step-000000000016")
    with pytest.raises(DataIntegrityError, match="step-000000000016"):
        verify(tmp_path / "step-000000000016")
    found = on_all_ranks(world, lambda peers: CheckpointStore(tmp_path, peers).latest())
    assert [checkpoint.step for checkpoint in found] == [8] * world
    assert names(tmp_path, ".bad-") == [".bad-000000000016-0"]


def test_one_rank_that_finds_damage_convinces_all(tmp_path):
    on_all_ranks(3, lambda peers: [save(CheckpointStore(tmp_path, peers), step) for step in (8, 16)])
    flip(tmp_path / "step-000000000016" / "rank-00002.weights", 77)

    def body(peers):
        store = CheckpointStore(tmp_path, peers)
        return store.latest().step, store.rejected

    assert (
        on_all_ranks(3, body) == [(8, [f"{tmp_path}/step-000000000016/rank-00002.weights: the SHA-256 is not that of the manifest."])] * 3
    )


@pytest.mark.parametrize("world", [1, 3])
def test_when_all_are_damaged_nobody_starts_from_zero(tmp_path, world):
    store_of(tmp_path, 8, 16)
    for path in tmp_path.glob("step-*/rank-00000.weights"):
        flip(path, 5)
    for _ in range(2):  # Later attempts remember.
        errors = on_all_ranks(world, lambda peers: CheckpointStore(tmp_path, peers).latest())
        assert [type(error) for error in errors] == [NoValidCheckpointError] * world
        assert len(list_quarantined(tmp_path)) == 2
    assert "no checkpoint is whole" in str(errors[0])


def test_a_file_that_cannot_be_read_just_now_is_not_called_damaged(tmp_path, monkeypatch):
    def stale(path):
        raise OSError(errno.ESTALE, "Stale file handle", str(path))

    store_of(tmp_path, 8)
    monkeypatch.setattr(committed, "sha256_file", stale)
    with pytest.raises(DataUnavailableError, match="Stale file handle"):
        latest_step(tmp_path)
    assert names(tmp_path, "step-") == ["step-000000000008"]


def test_a_bad_sector_is_damage(tmp_path, monkeypatch):
    def broken(path, real=committed.sha256_file):
        if "000016" in str(path):
            raise OSError(errno.EIO, "Input/output error", str(path))
        return real(path)

    store_of(tmp_path, 8, 16)
    monkeypatch.setattr(committed, "sha256_file", broken)
    assert latest_step(tmp_path) == 8


def test_a_checkpoint_of_a_newer_version_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(committed, "SCHEMA", 2)
    store_of(tmp_path, 8)
    monkeypatch.undo()
    with pytest.raises(ResumeMismatchError, match="schema 2"):
        latest_step(tmp_path)
    assert names(tmp_path, "step-") == ["step-000000000008"]


def different_views(root, body):
    return on_all_ranks(2, lambda peers: body(CheckpointStore(root / str(peers.rank), peers)))


def test_a_rank_that_does_not_see_the_newest_stops_all_and_nothing_is_set_aside(tmp_path, monkeypatch):
    monkeypatch.setattr(commit, "PATIENCE_SECONDS", 0.1)
    store_of(tmp_path / "0", 8, 16)
    shutil.copytree(tmp_path / "0" / "step-000000000008", tmp_path / "1" / "step-000000000008")
    errors = different_views(tmp_path, lambda store: store.latest())
    assert [type(error) for error in errors] == [ResumeMismatchError] * 2
    assert all("worker 1: " in str(error) and "storage that all workers share" in str(error) for error in errors)
    assert store_of(tmp_path / "0").steps() == [8, 16]


def test_a_rank_that_sees_more_follows_rank_0(tmp_path):
    store_of(tmp_path / "1", 8, 16)
    shutil.copytree(tmp_path / "1" / "step-000000000008", tmp_path / "0" / "step-000000000008")
    found = different_views(tmp_path, lambda store: store.latest())
    assert [checkpoint.step for checkpoint in found] == [8, 8]
    assert found[0].digest == found[1].digest


def test_ranks_with_equal_names_but_different_content_stop(tmp_path):
    for rank in (0, 1):
        store_of(tmp_path / str(rank), 8)  # The tokens differ.
    errors = different_views(tmp_path, lambda store: store.latest())
    assert [type(error) for error in errors] == [ResumeMismatchError] * 2


def test_saving_without_shared_storage_fails_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(commit, "PATIENCE_SECONDS", 0.1)

    def body(store):
        return save(store, 8), store.failure

    results = different_views(tmp_path, body)
    assert [saved for saved, _ in results] == [None, None]
    assert all("--run must be on shared storage" in reason for _, reason in results)
    assert not names(tmp_path / "0", ".stage-")
