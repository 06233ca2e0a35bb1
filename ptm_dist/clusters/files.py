"""Cluster files: YAML (or the JSON that a submission carries) that names a place to run and how to reach it."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from ptm_dist.clusters import CLUSTERS
from ptm_dist.clusters.base import Cluster
from ptm_dist.errors import ConfigError
from ptm_dist.recipe_errors import explain, kind_of
from ptm_dist.recipe_yaml import Keys, Origin, Origins, parse

LARGEST_BYTES: Final = 1_000_000
FOLDER: Final = Path("configs") / "cluster"


def load_cluster(path: str | Path) -> Cluster:
    """Read a cluster file.

    Raises:
        ConfigError: it cannot be read, or says something impossible; one line a problem, with the place where it was written.

    """
    data, origins = parse(_read(Path(path)), str(path))
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: this is {kind_of(data)}, but a cluster file is a mapping; write kind: {next(iter(CLUSTERS))}.")
    return _validated(data, origins)


def cluster_from_json(value: dict[str, Any], name: str) -> Cluster:
    """Read what `cluster_json` gave; `name` says where it comes from.

    Raises:
        ConfigError: it is no cluster; one line a problem.

    """
    return _validated(value, {(): Origin(name)})


def _validated(data: dict[str, Any], origins: Origins) -> Cluster:
    chosen = CLUSTERS.get(kind) if isinstance(kind := data.get("kind"), str) else None
    if chosen is None:
        raise ConfigError(_about_kind(kind, origins))
    unknown = list(_unknown(chosen.model_json_schema(), data, origins))
    if unknown:
        raise ConfigError("\n".join(unknown))
    try:
        return chosen.model_validate_json(json.dumps(data, allow_nan=False))
    except ValidationError as error:
        raise ConfigError(explain(error, data, origins)) from error


def _about_kind(kind: Any, origins: Origins) -> str:
    known = ", ".join(CLUSTERS)
    place = origins.get(("kind",), origins[()]).place
    if kind is None:
        return f"kind: missing; add it: one of {known} ({place})"
    near = difflib.get_close_matches(str(kind), CLUSTERS, n=1)
    return f'kind: "{kind}" is none of the kinds; {f"did you mean {near[0]}?" if near else f"one of: {known}"} ({place})'


def _unknown(schema: dict[str, Any], data: dict[str, Any], origins: Origins) -> Iterator[str]:
    """Yield a line for each key that the file has and its kind does not: where it stands, and the nearest right name."""
    everywhere = list(_paths(schema, schema, ()))
    for keys, names in _strangers(schema, schema, data, ()):
        near = [name for name in names if name.startswith(keys[-1])] or difflib.get_close_matches(keys[-1], names, n=1)
        elsewhere = next((".".join(path) for path in everywhere if path[-1] == keys[-1]), None)
        here = f"did you mean {near[0]}?" if near else f"here: {elsewhere}" if elsewhere else f"one of: {', '.join(names)}"
        yield f"{'.'.join(keys)}: unknown key; {here} ({origins.get(keys, origins[()]).place})"


def _strangers(schema: dict[str, Any], node: dict[str, Any], data: Any, keys: Keys) -> Iterator[tuple[Keys, list[str]]]:
    properties, free, items = _shape(schema, node)
    if isinstance(data, dict) and properties:
        for key, value in data.items():
            if key in properties:
                yield from _strangers(schema, properties[key], value, (*keys, key))
            elif not free:
                yield (*keys, key), list(properties)
    if isinstance(data, list) and items:
        for number, value in enumerate(data):
            yield from _strangers(schema, items, value, (*keys, str(number)))


def _paths(schema: dict[str, Any], node: dict[str, Any], keys: Keys) -> Iterator[Keys]:
    properties, _, items = _shape(schema, node)
    for key, child in [*properties.items(), *([("0", items)] if items else [])]:
        yield (*keys, key)
        yield from _paths(schema, child, (*keys, key))


def _shape(schema: dict[str, Any], node: dict[str, Any]) -> tuple[dict[str, Any], bool, dict[str, Any]]:
    """Return the properties of what a node of a JSON schema allows, whether further ones may stand there, and what a list of it holds."""
    properties: dict[str, Any] = {}
    free, items = False, dict[str, Any]()
    for option in node.get("anyOf", node.get("oneOf", [node])):
        option = schema["$defs"][option["$ref"].rpartition("/")[2]] if "$ref" in option else option  # noqa: PLW2901 - the option itself
        properties |= option.get("properties", {})
        free = free or bool(option.get("additionalProperties"))
        items = items or (option["items"] if isinstance(option.get("items"), dict) else {})
    return properties, free, items


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start:,} is not UTF-8; save the file as UTF-8 text.") from error
    except (OSError, ValueError) as error:
        found = [str(other) for folder in (path.parent, FOLDER) if folder.is_dir() for other in folder.glob("*.yaml")]
        near = difflib.get_close_matches(str(path), found, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else "check the name; examples lie in configs/cluster/."
        raise ConfigError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}); {hint}") from error
    if len(data) > LARGEST_BYTES:
        raise ConfigError(f"{path}: larger than {LARGEST_BYTES:,} bytes, which no cluster file is.")
    return text
