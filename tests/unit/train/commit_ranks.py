"""Ranks that are threads, and checkpoints of a few hundred bytes for them to save, damage and choose."""

import errno
import json
import random
import threading
from collections import defaultdict

from ptm_dist.train import committed
from ptm_dist.train.commit import Alone, CheckpointStore

POINTS = ["begin", "after_file", "before_manifest", "after_manifest", "before_rename", "after_rename", "before_prune"]
BEFORE_COMMIT = POINTS[:5]


class LostError(Exception):
    """A peer stopped answering."""


class Group:
    """What ranks that are threads share: the values of each gather."""

    def __init__(self, world):
        self.world, self.dead = world, False
        self.changed, self.gathers = threading.Condition(), defaultdict(dict)

    def leave(self):
        with self.changed:
            self.dead = True
            self.changed.notify_all()


class Thread:
    """One of them; it dies before its gather number `dies_at`."""

    def __init__(self, group, rank, dies_at=None):
        self.group, self.rank, self.world, self.dies_at, self.calls = group, rank, group.world, dies_at, 0

    def gather(self, value):
        with self.group.changed:
            if self.calls == self.dies_at:
                raise SystemExit
            self.group.changed.notify_all()
            row = self.group.gathers[self.calls]
            row[self.rank] = json.dumps(value)  # JSON, as promised
            self.calls += 1
            self.group.changed.wait_for(lambda: len(row) == self.world or self.group.dead, timeout=20)
            if len(row) < self.world:
                raise LostError
            return [json.loads(row[rank]) for rank in range(self.world)]


def on_all_ranks(world, body, dies_at=None):
    """Return what `body(peers)` gives or raises on every rank; with `dies_at` the last rank dies before that gather."""
    group, results = Group(world), [None] * world

    def run(rank):
        try:
            results[rank] = body(Thread(group, rank, dies_at if rank == world - 1 else None))
        except BaseException as error:
            results[rank] = error
            group.leave()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def writer(rank=0, step=0, size=300):
    def write(directory):
        paths = [directory / f"rank-{rank:05d}.{kind}" for kind in ("weights", "moments")]
        for path in paths:
            path.write_bytes(random.Random(f"{path.name}{step}").randbytes(size))
        return paths

    return write


def full_disk(directory):
    (directory / "half").write_bytes(b"half a file")
    raise OSError(errno.ENOSPC, "No space left on device", str(directory / "half"))


def save(store, step, **options):
    return store.save(step, writer(store.peers.rank, step), {"step": step, "loss": 0.1 + step}, **options)


def store_of(root, *steps, **options):
    store = CheckpointStore(root, Alone(), **options)
    for step in steps:
        assert save(store, step)
    return store


def latest_step(root):
    found = CheckpointStore(root, Alone()).latest()
    return found and found.step


def names(root, prefix):
    return sorted(path.name for path in root.glob(f"{prefix}*"))


def require_no_half_checkpoint(root):
    for path in root.glob("step-*"):
        assert committed.read_manifest(path)["files"].keys() == {file.name for file in path.iterdir()} - {committed.MANIFEST}


def flip(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def remove(path):
    (path / "rank-00000.moments").unlink()
