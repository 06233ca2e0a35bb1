"""Where DeepSpeed keeps each parameter's fp32 weight: rows (name, offset in the parameter, flat tensor, offset in it).

ZeRO lays parameters end to end in flat tensors and gives each rank a part. The four layouts of DeepSpeed 0.19 are read here, through
attributes that are private there; the package pins the version and the tests hold each of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from ptm_dist.models.base import stored_shape
from ptm_dist.optimizers.base import Segments


@dataclass(frozen=True)
class Fragment:
    """Elements start..start+length of the flattened parameter `name`, which are flat[flat_start : flat_start+length]."""

    name: str
    start: int
    length: int
    flat: Tensor
    flat_start: int

    def of(self, tensor: Tensor) -> Tensor:
        """Return this fragment of a tensor laid out like `flat`: the master weights, or a moment."""
        return tensor.detach().view(-1)[self.flat_start : self.flat_start + self.length]


class Layout:
    """The flat tensors of an engine and the fragments in them.

    Raises:
        TypeError: the engine wraps the optimizer in a class whose layout is not known.

    """

    def __init__(self, engine: Any, rank: int, world: int) -> None:
        self._engine = engine
        self._rank, self._world = rank, world
        kind = type(engine.optimizer).__name__
        self._kind = kind if kind in _LAYOUTS else "unsharded"
        if self._kind == "unsharded" and engine.optimizer is not engine.basic_optimizer:
            raise TypeError(f"unknown ZeRO optimizer {kind}: this version knows {', '.join(_LAYOUTS)}")
        self.shapes = {name: stored_shape(parameter) for parameter, name in engine.param_names.items()}
        read = _LAYOUTS[kind] if self._kind == kind else _unsharded
        self.flats, groups, pieces = read(engine.optimizer)
        self.names = [[engine.param_names[parameter] for parameter in group] for group in groups]
        """The parameters that share each flat tensor over all ranks."""
        found = (
            Fragment(engine.param_names[parameter], start, length, flat, flat_start)
            for flat, group in zip(self.flats, groups, strict=True)
            for parameter, start, length, flat_start in pieces(group)
        )
        self.fragments = [stored for fragment in found if (stored := self._stored(fragment))]

    def _stored(self, fragment: Fragment) -> Fragment | None:
        """Cut what lies in padded rows, which do not exist outside of the module."""
        length = min(fragment.length, prod(self.shapes[fragment.name]) - fragment.start)
        if length <= 0:
            return None
        return Fragment(fragment.name, fragment.start, length, fragment.flat, fragment.flat_start)

    @property
    def owned(self) -> list[Fragment]:
        """The fragments that this rank writes: its own under ZeRO, its share of the replica without."""
        if self.sharded:
            return self.fragments
        return [piece for fragment in self.fragments if (piece := self._share(fragment))]

    def _share(self, fragment: Fragment) -> Fragment | None:
        first, last = (fragment.length * edge // self._world for edge in (self._rank, self._rank + 1))
        if first == last:
            return None
        return Fragment(fragment.name, first, last - first, fragment.flat, first)

    @property
    def sharded(self) -> bool:
        """Do ranks hold different parts of the fp32 weights?"""
        return self._kind != "unsharded"

    def segments(self) -> dict[Tensor, Segments]:
        """Return which parameters lie where in each flat tensor, numbered alike on all ranks."""
        pieces: dict[Tensor, list[tuple[int, int, int]]] = {flat: [] for flat in self.flats}
        numbers = {name: number for group in self.names for number, name in enumerate(group)}
        for fragment in self.fragments:
            pieces[fragment.flat].append((numbers[fragment.name], fragment.flat_start, fragment.length))
        return {flat: Segments(len(group), pieces[flat]) for flat, group in zip(self.flats, self.names, strict=True)}

    def zero_padding(self, state: Any) -> None:
        """Zero what no fragment covers, in weights and state: stage 3 leaves old memory there, which would enter norms."""
        covered: dict[int, list[tuple[int, int]]] = {}
        for fragment in self.fragments:
            covered.setdefault(id(fragment.flat), []).append((fragment.flat_start, fragment.flat_start + fragment.length))
        for flat in self.flats:
            padding = torch.ones(flat.numel(), dtype=torch.bool, device=flat.device)
            for first, last in covered.get(id(flat), []):
                padding[first:last] = False
            for tensor in (flat, *(value for value in state[flat].values() if value.shape == flat.shape)):
                tensor.detach().view(-1)[padding] = 0

    def refresh(self) -> None:
        """Copy the fp32 weights to where the forward pass reads: under ZeRO these are other tensors, in fp32 too."""
        outer = self._engine.optimizer
        if self._kind == "DeepSpeedZeroOptimizer_Stage3":
            outer._partition_all_parameters()
            for number in range(len(outer.fp16_groups)):
                outer._reassign_or_swap_out_partitioned_parameters(number)
            if outer.persistent_parameters:
                outer.persistent_parameters[0].all_gather(outer.persistent_parameters)
        elif self.sharded:
            outer.update_lp_params()


def _hp_pieces(group: list[Any]) -> Iterator[tuple[Any, int, int, int]]:
    for parameter in group:
        mapping = parameter._hp_mapping
        if mapping is not None:
            address = mapping.lp_fragment_address
            yield parameter, address.start, address.numel, mapping.get_hp_fragment_address().start


def _unsharded(optimizer: Any) -> tuple[list[Tensor], list[Any], Any]:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return parameters, [[parameter] for parameter in parameters], lambda group: ((p, 0, p.numel(), 0) for p in group)


def _stage_1_2(outer: Any) -> tuple[list[Tensor], list[Any], Any]:
    if outer.round_robin_gradients:
        raise TypeError("round_robin_gradients makes DeepSpeed's own map of fragments wrong; leave it off")
    return list(outer.single_partition_of_fp32_groups), outer.bit16_groups, _hp_pieces


def _stage_1_bf16(outer: Any) -> tuple[list[Tensor], list[Any], Any]:
    return list(outer.fp32_groups_flat_partition), outer.bf16_groups, _hp_pieces


def _stage_3(outer: Any) -> tuple[list[Tensor], list[Any], Any]:
    def pieces(group: list[Any]) -> Iterator[tuple[Any, int, int, int]]:
        for parameter in group:
            _, flat_start, part = outer.grad_position[outer.get_param_id(parameter)]
            start = part * outer._get_param_partition_rank(parameter)
            length = max(0, min(part, parameter.ds_numel - start))
            if length:
                yield parameter, start, length, flat_start

    return list(outer.fp32_partitioned_groups_flat), outer.fp16_groups, pieces


_LAYOUTS = {
    "DeepSpeedZeroOptimizer": _stage_1_2,
    "BF16_Optimizer": _stage_1_bf16,
    "DeepSpeedZeroOptimizer_Stage3": _stage_3,
}
