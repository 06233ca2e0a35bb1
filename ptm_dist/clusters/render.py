"""Files made from a cluster file: the file itself with every field explained, and what `Cluster.render` returns, below a folder."""

from __future__ import annotations

import textwrap
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ptm_dist.clusters import CLUSTERS
from ptm_dist.clusters.base import Cluster, cluster_json
from ptm_dist.errors import ConfigError
from ptm_dist.recipe_yaml import dump
from ptm_dist.store import explain_disk_errors, write_atomic

WIDTH: Final = 120
SHARED: Final = {"runs": "/shared/runs", "cache": "/shared/ptm-cache"}
"""Where several machines would have a folder in common."""


@dataclass(frozen=True)
class Written:
    """A rendered file and what became of it."""

    path: Path
    change: Literal["new", "changed", "same"]


def render(cluster: Cluster, folder: Path) -> list[Written]:
    """Write the files of a cluster below `folder`; what is there already and is the same is not touched."""
    done = []
    for name, text in sorted(cluster.render().items()):
        path, data = folder / name, text.encode()
        known = path.read_bytes() if path.exists() else None
        if known != data:
            with explain_disk_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, data)
        done.append(Written(path, "new" if known is None else "same" if known == data else "changed"))
    return done


def stale(cluster: Cluster, folder: Path) -> list[Path]:
    """Return files in the rendered folders that `cluster` no longer has."""
    wanted = {folder / name for name in cluster.render()}
    tops = {name.split("/")[0] for name in cluster.render()}
    return sorted(path for top in tops for path in (folder / top).rglob("*") if path.is_file() and path not in wanted)


def template(kind: str) -> str:
    """Return a cluster file of a kind that names every field, with its default and what it means; it reads back as that cluster.

    Raises:
        ConfigError: there is no such kind.

    """
    if kind not in CLUSTERS:
        raise ConfigError(f"{kind}: no kind of cluster; one of: {', '.join(CLUSTERS)}.")
    chosen = CLUSTERS[kind]
    shared = {} if kind == "local" or "runs" in chosen.__annotations__ else SHARED
    return commented(chosen.model_validate({"kind": kind} | shared))


def commented(cluster: Cluster) -> str:
    """Return the YAML of a cluster, each field with its docstring as a comment."""
    doc = " ".join((type(cluster).__doc__ or "").split())
    return "".join([*_comment(doc, 0), *_fields(cluster, cluster_json(cluster), 0)])


def _fields(model: BaseModel, values: dict[str, Any], depth: int) -> Iterator[str]:
    # What belongs to the kind comes first, then what all kinds have.
    fields = type(model).model_fields
    names = [name for name in fields if name in type(model).__annotations__]
    for name in dict.fromkeys(["kind"][: "kind" in fields] + names + list(fields)):
        yield from _field(name, fields[name], getattr(model, name), values[name], depth)


def _field(name: str, field: FieldInfo, value: Any, plain: Any, depth: int) -> Iterator[str]:
    if name != "kind":
        yield from _comment(_told(field), depth)
    if isinstance(value, BaseModel):
        yield f"{' ' * depth}{name}:\n"
        yield from _fields(value, plain, depth + 2)
        return
    yield textwrap.indent(dump({name: plain}), " " * depth)
    inner = _section_of(field.annotation)
    if inner is not None:
        yield from _comment(f"{name} may hold:", depth)
        for key, part in inner.model_fields.items():
            yield from _comment(f"  {key}: {_told(part) or _choices(part.annotation)}", depth)


def _told(field: FieldInfo) -> str:
    told = " ".join((field.description or "").split()).replace("None:", "null:")
    choices = _choices(field.annotation)
    return f"{told} One of: {choices}.".strip() if choices and choices not in told else told


def _choices(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return ", ".join(map(str, get_args(annotation)))
    found = [_choices(option) for option in get_args(annotation)] if get_origin(annotation) in (Union, types.UnionType) else []
    return ", ".join(filter(None, found))


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """Return the model that a list or an empty choice would hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for option in get_args(annotation) if (found := _section_of(option)) is not None), None)


def _comment(text: str, depth: int) -> Iterator[str]:
    lead = len(text) - len(text.lstrip())
    for line in textwrap.wrap(text, WIDTH - depth - 2, subsequent_indent=" " * lead):
        yield f"{' ' * depth}# {line}\n"
