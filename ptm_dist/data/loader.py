"""Reading batches ahead of training. The step names the rows; threads and processes only decide who reads them when."""

from __future__ import annotations

import ctypes
import multiprocessing
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from ptm_dist.data.batch import MicroBatch, Row, collate
from ptm_dist.data.dataset import Dataset, RowReader
from ptm_dist.data.example import Example
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import DataUnavailableError, PeerLostError, PtmError
from ptm_dist.order import Order, divide, share
from ptm_dist.rng import RowDraws
from ptm_dist.schedule import Moment, Schedule

LEAST_ROWS: Final = 16
"""Held-out rows of a source that are measured if it has them, however small it is beside the others: fewer tell little."""


class Corruptor(Protocol):
    """The part of an objective that works on arrays; `objectives.base.Objective` says what each of these is."""

    kind: str

    @property
    def reads(self) -> frozenset[str]:
        """The fields that the model does not read."""
        ...

    @property
    def variants(self) -> int:
        """How many changes of a row there are; 0: a new one every epoch."""
        ...

    def corrupt(self, rows: Sequence[Row], vocabulary: Vocabulary, draws: RowDraws, step: int | None = None) -> list[Row]:
        """Return `rows` as the model sees them."""
        ...


@dataclass(frozen=True)
class Reading:
    """How one rank turns a moment of the schedule into micro-batches; plain data, so that it can move to another process."""

    directories: Mapping[str, Path]
    """Data set directory by name."""
    objectives: Mapping[str, Sequence[Corruptor]]
    """Objectives by task."""
    vocabulary: Vocabulary
    seed: int
    lanes: int
    micro: int
    """Most rows of a micro-batch."""
    stateful: frozenset[str] = frozenset()
    """Tasks whose rows go on from one another: each lane is read in the order in which it is stored, and is a row of every batch."""
    rank: int = 0
    world: int = 1


class Reader:
    """Makes the micro-batches of one rank."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self._orders: dict[str, Order] = {}

    @cached_property
    def _rows(self) -> dict[str, RowReader]:
        # A rank holds one chunk for each of its lanes; twice that covers a lane that moves on within a batch.
        return {
            name: RowReader(Dataset.open(directory), cached_chunks=2 * self.reading.lanes)
            for name, directory in self.reading.directories.items()
        }

    def order(self, data: str) -> Order:
        """Return the reading order of a data set.

        Raises:
            DataUnavailableError: a task with memory has fewer rows than lanes.

        """
        if data not in self._orders:
            dataset, lanes = self._rows[data].dataset, self.reading.lanes
            stateful = data.rpartition(".")[0] in self.reading.stateful
            if stateful and dataset.rows < lanes:
                raise DataUnavailableError(
                    f"{dataset.directory}: {dataset.rows} rows cannot be read in {lanes} lanes. "
                    "Add text, or lower batch.lanes and batch.rows."
                )
            rows = np.array([chunk.rows for chunk in dataset.chunks], dtype=np.int64)
            self._orders[data] = Order(rows, min(lanes, dataset.rows), self.reading.seed, stateful)
        return self._orders[data]

    def batch(self, moment: Moment) -> list[MicroBatch]:
        """Return this rank's part of the batch of a step, cut into as many micro-batches as every other rank gets."""
        order = self.order(moment.data)
        positions = range(moment.position, moment.position + moment.rows)
        mine = share(positions, order.lanes, self.reading.rank, self.reading.world)
        addresses = [order.locate(position) for position in mine]
        rows = [self._rows[moment.data].read(address.chunk, address.place) for address in addresses]
        keys = [(address.epoch, address.row) for address in addresses]
        return self._cut(moment.task, self._corrupt(moment.task, rows, "train", keys, moment.step), moment.rows)

    def dataset(self, data: str) -> Dataset:
        """Return an open data set."""
        return self._rows[data].dataset

    def held_out(self, task: str, data: str, most_rows: int) -> dict[str, list[list[MicroBatch]]]:
        """Return this rank's part of `most_rows` rows of a held-out data set by source, masked the same every time.

        Sources share the rows as `order.divide` says, and are read as if each were alone. The inner lists follow one another: where a task
        carries memory, each row goes on from the one at its place in the list before.
        """
        sources = self.dataset(data).sources
        counts = divide([len(part.rows) for part in sources.values()], most_rows, LEAST_ROWS)
        return {source: self._spread(task, data, part.rows, count) for (source, part), count in zip(sources.items(), counts, strict=True)}

    def _spread(self, task: str, data: str, rows: range, count: int) -> list[list[MicroBatch]]:
        """Read `count` rows spread evenly over some; their masks follow from their places in `rows`."""
        lanes = min(self.reading.lanes, count) if task in self.reading.stateful else count
        mine = range(self.reading.rank * lanes // self.reading.world, (self.reading.rank + 1) * lanes // self.reading.world)
        times = []
        for time in range(count // lanes):
            places = [lane * len(rows) // lanes + time for lane in mine]
            found = [self._rows[data].row(rows[place]) for place in places]
            times.append(self._cut(task, self._corrupt(task, found, "held_out", [(0, place) for place in places], None), lanes))
        return times

    def longest(self, task: str, rows: int) -> MicroBatch:
        """Return a micro-batch of the longest row of a task's training data, `rows` times: what memory must hold."""
        data = f"{task}.train"
        number = int(self._rows[data].dataset.lengths.argmax())
        row = self._corrupt(task, [self._rows[data].row(number)], "longest", [(0, number)], None)
        return collate(row * rows, self.reading.vocabulary.pad, rows)

    def show(self, task: str, position: int) -> tuple[Example, Row, int]:
        """Return a row of the training data as it is stored and as training reads it at a position, and its number."""
        data = f"{task}.train"
        address = self.order(data).locate(position)
        example = self._rows[data].read(address.chunk, address.place)
        (row,) = self._corrupt(task, [example], "train", [(address.epoch, address.row)], 0)
        return example, row, address.row

    def _corrupt(self, task: str, examples: Sequence[Example], use: str, keys: list[tuple[int, int]], step: int | None) -> list[Row]:
        """Pass rows with their keys (epoch, row) through the objectives of a task."""
        rows = [Row(example) for example in examples]
        for objective in self.reading.objectives[task]:
            variants = objective.variants
            repeated = [(epoch % variants, row) for epoch, row in keys] if variants else keys
            draws = RowDraws(self.reading.seed, f"{use}.{task}.{objective.kind}", repeated)
            rows = objective.corrupt(rows, self.reading.vocabulary, draws, step)
        read = frozenset().union(*(objective.reads for objective in self.reading.objectives[task]))
        return [row.without(read) for row in rows] if read else rows

    def _cut(self, task: str, rows: list[Row], global_rows: int) -> list[MicroBatch]:
        """Cut rows of similar length, or of lanes in their order, into micro-batches; their number follows from the global batch alone."""
        if task not in self.reading.stateful:
            rows = sorted(rows, key=lambda row: len(row.inputs["tokens"]))
        most = -(-global_rows // self.reading.world)
        number = -(-most // self.reading.micro)
        width = -(-most // number)
        return [collate(rows[start : start + width], self.reading.vocabulary.pad, width) for start in range(0, number * width, width)]


_PDEATHSIG: Final = 1


def die_with_parent() -> None:
    """Ask Linux to end this process when the one that started it ends, so that no orphan survives a kill -9."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)


Answer = Callable[[], list[MicroBatch]]


class _Thread:
    """Reads ahead in a thread of this process."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="loader")

    def ask(self, moment: Moment) -> Answer:
        return self._executor.submit(self._reader.batch, moment).result

    def close(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)


class _Processes:
    """Reads ahead in processes. Step s goes to process s mod n, so the answers of each pipe come in the order of the questions.

    `concurrent.futures.ProcessPoolExecutor` does not do: its workers outlive a killed parent, and now and then an orderly one.
    """

    def __init__(self, reading: Reading, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        pipes = [context.Pipe() for _ in range(count)]
        self._pipes = [here for here, _ in pipes]
        self._processes = [context.Process(target=_serve, args=(reading, there), daemon=True) for _, there in pipes]
        for process, (_, there) in zip(self._processes, pipes, strict=True):
            process.start()
            there.close()

    def ask(self, moment: Moment) -> Answer:
        pipe = self._pipes[moment.step % len(self._pipes)]
        pipe.send(moment)
        return lambda: _answer(pipe)

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.join()


def _serve(reading: Reading, pipe: Connection) -> None:
    die_with_parent()
    for number in (signal.SIGINT, signal.SIGTERM):  # Whole groups are signalled; the worker decides, and takes this process along.
        signal.signal(number, signal.SIG_IGN)
    reader = Reader(reading)
    with suppress(EOFError, OSError):  # The other end is gone: nobody waits for an answer.
        while True:
            moment = pipe.recv()
            try:
                answer: list[MicroBatch] | PtmError = reader.batch(moment)
            except PtmError as error:
                answer = error
            pipe.send(answer)


def _answer(pipe: Connection) -> list[MicroBatch]:
    try:
        answer = pipe.recv()
    except (EOFError, OSError) as error:
        raise PeerLostError("a loader process died (out of memory?). The same command goes on from the last checkpoint.") from error
    if isinstance(answer, PtmError):
        raise answer
    return answer


class Loader:
    """Reads the batches of consecutive steps ahead, in order."""

    def __init__(self, reading: Reading, schedule: Schedule, processes: int = 0, prefetch_steps: int = 4) -> None:
        self.reader = Reader(reading)
        self._schedule = schedule
        self._prefetch_steps = prefetch_steps
        self._processes = processes

    def steps(self, start: int, stop: int) -> Iterator[tuple[Moment, list[MicroBatch]]]:
        """Yield moment and micro-batches of steps start..stop-1.

        Raises:
            DataIntegrityError: a chunk is damaged.
            PeerLostError: a loader process died.

        """
        source = _Processes(self.reader.reading, self._processes) if self._processes else _Thread(self.reader)
        waiting: deque[tuple[Moment, Answer]] = deque()
        ahead = iter(range(start, stop))
        try:
            while True:
                while len(waiting) < self._prefetch_steps and (step := next(ahead, None)) is not None:
                    moment = self._schedule.at(step)
                    waiting.append((moment, source.ask(moment)))
                if not waiting:
                    return
                moment, answer = waiting.popleft()
                yield moment, answer()
        finally:
            source.close()


def require_rows(dataset: Dataset, what: str) -> None:
    """Refuse an empty data set.

    Raises:
        DataUnavailableError: it has no row.

    """
    if not dataset.rows:
        raise DataUnavailableError(f"{dataset.directory}: no {what} example. Add text, or make the rows shorter (format.length).")
