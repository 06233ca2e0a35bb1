"""Batches: the same rows with the same masks for any world size and any number of loader processes; each row once an epoch."""

import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from ptm_dist.data.dataset import Dataset
from ptm_dist.data.loader import Loader, Reader, Reading
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import DataIntegrityError, DataUnavailableError
from ptm_dist.objectives.masked_lm import MaskedLM
from ptm_dist.schedule import Moment, Schedule, StagePlan, TaskPlan
from tests.unit.data.rows import write_rows, write_sources

VOCABULARY = Vocabulary(size=300, begin=0, pad=1, end=2, unknown=3, mask=299)
ROWS, BATCH, STEPS = 173, 12, 40


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Rows whose second token pair spells their number, so that a batch can be read back."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(ROWS):
        body = rng.integers(4, 290, rng.integers(10, 30))
        rows.append(np.array([0, 4 + number // 16, 4 + number % 16, *body, 2]))
    return write_rows(tmp_path_factory.mktemp("rows"), rows, VOCABULARY, rows_per_chunk=10)


def reading(directory, rank=0, world=1, micro=5):
    return Reading(
        {"t.train": directory}, {"t": (MaskedLM(predict_special=False),)}, VOCABULARY, seed=3, lanes=8, micro=micro, rank=rank, world=world
    )


def schedule():
    return Schedule((StagePlan("main", (TaskPlan("t", STEPS, BATCH, "t.train"),)),))


def rows_of(batches):
    """Return the rows of micro-batches as (tokens, targets) in an order that does not depend on how they were cut."""
    found = []
    for batch in batches:
        positions, labels = batch.targets.get("masked_lm", (np.zeros(0, int), np.zeros(0, int)))
        width = batch.inputs["tokens"].shape[1]
        for number, length in enumerate(batch.lengths):
            mine = (positions // width) == number
            if length > 1:
                targets = tuple(zip((positions[mine] % width).tolist(), labels[mine].tolist(), strict=True))
                found.append((tuple(batch.inputs["tokens"][number, :length].tolist()), targets))
    return sorted(found)


def original(row):
    tokens, targets = list(row[0]), dict(row[1])
    return tuple(targets.get(place, token) for place, token in enumerate(tokens))


@pytest.fixture(scope="module")
def alone(directory):
    loader = Loader(reading(directory), schedule())
    return [rows_of(batches) for _, batches in loader.steps(0, STEPS)]


@pytest.mark.parametrize("processes", [0, 1, 2])
@pytest.mark.parametrize("world", [1, 2, 4])
def test_batches_are_identical_for_any_world_and_loader(directory, alone, world, processes):
    if world == 4 and processes == 2:
        loaders = [Loader(reading(directory, rank, world, micro=2), schedule(), processes, prefetch_steps=7) for rank in range(world)]
    else:
        loaders = [Loader(reading(directory, rank, world), schedule(), processes) for rank in range(world)]
    streams = [loader.steps(0, STEPS) for loader in loaders]
    for step, parts in enumerate(zip(*streams, strict=True)):
        assert {moment.step for moment, _ in parts} == {step}
        assert len({len(batches) for _, batches in parts}) == 1, "every rank forwards equally often"
        assert sorted(row for _, batches in parts for row in rows_of(batches)) == alone[step]


def test_each_row_occurs_exactly_once_an_epoch(alone, directory):
    seen = [original(row) for step in alone for row in step]
    numbers = [(row[1] - 4) * 16 + row[2] - 4 for row in seen]
    order = Reader(reading(directory)).order("t.train")
    lanes = {lane: [] for lane in range(8)}
    for position in range(BATCH * STEPS):
        lanes[order.lane_of(position)].append(order.locate(position).row)
    for lane, rows in lanes.items():
        size = (lane + 1) * ROWS // 8 - lane * ROWS // 8
        for start in range(0, len(rows) - size + 1, size):
            assert sorted(rows[start : start + size]) == list(range(lane * ROWS // 8, (lane + 1) * ROWS // 8))
    assert Counter(numbers) == Counter(row for rows in lanes.values() for row in rows), "what was read is what the order names"


def test_reading_starts_anywhere_with_the_same_batches(directory, alone):
    for start in (1, 17, STEPS - 1):
        loader = Loader(reading(directory), schedule())
        assert [rows_of(batches) for _, batches in loader.steps(start, STEPS)] == alone[start:]


def test_masks_differ_from_epoch_to_epoch(alone):
    masks = {}
    for step in alone:
        for row in step:
            masks.setdefault(original(row), []).append(frozenset(place for place, _ in row[1]))
    repeated = [found for found in masks.values() if len(found) > 1]
    assert len(repeated) > 100
    assert sum(len(set(found)) > 1 for found in repeated) > 0.95 * len(repeated)


def test_held_out_rows_are_masked_the_same_every_time_and_shared_out(directory):
    whole = rows_of(Reader(reading(directory)).held_out("t", "t.train", 50)[""][0])
    assert len(whole) == 50
    assert rows_of(Reader(reading(directory)).held_out("t", "t.train", 50)[""][0]) == whole
    parts = [rows_of(Reader(reading(directory, rank, 3)).held_out("t", "t.train", 50)[""][0]) for rank in range(3)]
    assert sorted(row for part in parts for row in part) == whole


def numbers_of(batches):
    """Return the number of each row, in the order of the rows."""
    return [(row[1] - 4) * 16 + row[2] - 4 for batch in batches for row in batch.inputs["tokens"][batch.lengths > 1].tolist()]


@pytest.mark.parametrize(("world", "micro"), [(1, 8), (1, 3), (2, 4), (4, 1)])
def test_rows_with_memory_go_on_lane_by_lane(directory, world, micro):
    readers = [
        Reader(replace(reading(directory, rank, world, micro), stateful=frozenset({"t"}), objectives={"t": ()})) for rank in range(world)
    ]
    lanes = [range(lane * ROWS // 8, (lane + 1) * ROWS // 8) for lane in range(8)]
    for step in (0, 1, 20, 25, 60):
        moment = Moment(step, 0, "t", "t.train", 8, 8 * step)
        found = [number for reader in readers for number in numbers_of(reader.batch(moment))]
        assert found == [lane[step % len(lane)] for lane in lanes]
    held_out = [reader.held_out("t", "t.train", 50)[""] for reader in readers]
    for time in range(50 // 8):
        found = [number for parts in held_out for number in numbers_of(parts[time])]
        assert found == [lane[0] + time for lane in lanes]
    assert {len(parts) for parts in held_out} == {50 // 8}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Two sources in one data set that keeps them apart, and each of them as one of its own: (both, {source: alone})."""
    draws, folder = np.random.default_rng(1), tmp_path_factory.mktemp("sources")
    rows = {name: [draws.integers(4, 290, draws.integers(5, 30)) for _ in range(count)] for name, count in (("large", 130), ("small", 21))}
    alone = {name: write_rows(folder / name, [*found[::2], *found[1::2]], VOCABULARY, 10) for name, found in rows.items()}
    return write_sources(folder / "both", rows, VOCABULARY, 10), alone


@pytest.mark.parametrize("stateful", [False, True])
@pytest.mark.parametrize(("rank", "world"), [(0, 1), (0, 2), (1, 2), (2, 3)])
def test_held_out_rows_of_a_source_are_those_of_it_alone(sources, rank, world, stateful):
    both, alone = sources
    tasks = frozenset({"t"} if stateful else ())
    found = Reader(replace(reading(both, rank, world), stateful=tasks)).held_out("t", "t.train", 60)
    assert list(found) == ["large", "small"]
    counts = {"large": 16 + 28 * 114 // 119, "small": 16 + 28 - 28 * 114 // 119}
    for name, times in found.items():
        expected = Reader(replace(reading(alone[name], rank, world), stateful=tasks)).held_out("t", "t.train", counts[name])[""]
        assert [len(batches) for batches in times] == [len(batches) for batches in expected]
        for batch, own in zip([b for batches in times for b in batches], [b for batches in expected for b in batches], strict=True):
            assert batch.inputs["tokens"].tolist() == own.inputs["tokens"].tolist()
            assert batch.targets["masked_lm"].positions.tolist() == own.targets["masked_lm"].positions.tolist()
            assert batch.targets["masked_lm"].labels.tolist() == own.targets["masked_lm"].labels.tolist()


def test_fewer_rows_than_lanes_cannot_carry_memory(directory):
    reader = Reader(replace(reading(directory), stateful=frozenset({"t"}), lanes=ROWS + 1))
    with pytest.raises(DataUnavailableError, match=f"{ROWS} rows cannot be read in {ROWS + 1} lanes"):
        reader.order("t.train")


def test_static_masks_come_back_after_all_variants(directory):
    class Three(MaskedLM):
        @property
        def variants(self):
            return 3

    reader = Reader(replace(reading(directory), objectives={"t": (Three(),)}))
    masks = {}
    for epoch in range(7):
        steps = range(epoch * 22 * 8, (epoch + 1) * 22 * 8, 8)
        for start in steps:
            for row in rows_of(reader.batch(Moment(start // 8, 0, "t", "t.train", 8, start))):
                masks.setdefault(original(row), []).append(tuple(place for place, _ in row[1]))
    for found in masks.values():
        assert found[0] == found[3]
        assert found[1] == found[4]
        assert len(set(found)) <= 3
    assert sum(len(set(found)) == 3 for found in masks.values()) > 0.9 * len(masks)


def test_a_damaged_chunk_is_refused(directory, tmp_path):
    copy = shutil.copytree(directory, tmp_path / "copy")
    for entry in Dataset.open(copy).chunks:
        data = bytearray((copy / entry.shard).read_bytes())
        data[entry.offset + 700] ^= 4
        (copy / entry.shard).write_bytes(data)
    with pytest.raises(DataIntegrityError, match=r"\.tar: the chunk at byte .* is damaged"):
        Reader(reading(copy)).held_out("t", "t.train", 10)
