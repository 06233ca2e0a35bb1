"""Memory by lane: any number of workers and any micro-batch goes on with what others wrote."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.errors import DataIntegrityError
from ptm_dist.train.memory import LaneMemory

LANES = 12
WHOLE = {"states": torch.randn(LANES, 2, 3), "cells": torch.randn(LANES, 4).bfloat16()}


def memory_of(rank, world, micro, tasks=("lm",)):
    return LaneMemory(SimpleNamespace(rank=rank, world=world, device=torch.device("cpu")), frozenset(tasks), LANES, micro)


def fill(memory, rank, world):
    """Keep each rank's lanes of WHOLE, a micro-batch after the other, the last with rows of ones in place of lanes."""
    mine = LANES // world
    count = -(-mine // memory.micro)
    width = -(-mine // count)
    for number in range(count):
        part = {name: values[rank * mine : (rank + 1) * mine][number * width : (number + 1) * width] for name, values in WHOLE.items()}
        short = width - len(part["cells"])
        memory.after("lm", number, {name: torch.cat([v, v.new_ones(short, *v.shape[1:])]) for name, v in part.items()})


@given(st.sampled_from([1, 2, 3, 4]), st.sampled_from([1, 2, 3, 6]), st.integers(1, 13), st.integers(1, 13))
def test_memory_moves_to_other_worlds_and_micro_batches(tmp_path_factory, world, other, micro, other_micro):
    directory = tmp_path_factory.mktemp("memory")
    for rank in range(world):
        memory = memory_of(rank, world, micro)
        fill(memory, rank, world)
        assert [path.name for path in memory.write(directory)] == [f"memory-{rank:05d}.safetensors"]
    for rank in range(other):
        memory, expected = memory_of(rank, other, other_micro), memory_of(rank, other, other_micro)
        memory.read(directory)
        fill(expected, rank, other)
        numbers = range(-(-LANES // other // other_micro))
        for name, whole in WHOLE.items():
            found = torch.cat([(memory.before("lm", number) or {})[name] for number in numbers])[: LANES // other]
            assert torch.equal(found, torch.cat([(expected.before("lm", number) or {})[name] for number in numbers])[: LANES // other])
            assert found.dtype == whole.dtype


def test_tasks_without_memory_have_none_and_write_nothing(tmp_path):
    memory = memory_of(0, 1, 4, tasks=())
    fill(memory, 0, 1)
    assert memory.before("lm", 0) is None
    assert memory.write(tmp_path) == []
    memory.read(tmp_path)


def test_a_missing_part_is_told(tmp_path):
    memory = memory_of(1, 2, 4)
    fill(memory, 1, 2)
    memory.write(tmp_path)
    with pytest.raises(DataIntegrityError, match="is of 6 lanes, not 12"):
        memory_of(0, 1, 4).read(tmp_path)
    (tmp_path / "memory-00000.safetensors").write_bytes(b"nothing")
    with pytest.raises(DataIntegrityError, match="cannot be read"):
        memory_of(0, 1, 4).read(tmp_path)
