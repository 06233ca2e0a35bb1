"""Recipes as files and as arguments: YAML merged left to right, what a file extends, overrides, and the way back to text."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from ptm_dist.errors import ConfigError
from ptm_dist.recipe import Recipe
from ptm_dist.recipe_errors import explain, kind_of
from ptm_dist.recipe_merge import STAND_INS, laid_over, merged
from ptm_dist.recipe_scale import AT_LEAST, AT_MOST, scaled
from ptm_dist.recipe_yaml import COMMAND_LINE, Keys, Origin, Origins, dump, parse
from ptm_dist.store import read_json, write_json

LARGEST_BYTES: Final = 1_000_000


def load_recipe(files: Sequence[str | Path], overrides: Sequence[str] = (), text: Sequence[str] = ()) -> Recipe:
    """Merge files left to right, each over what it `extends:`, then set `dotted.key=value`.

    Paths in `text` take the place of all sources, as one source named text. Mappings merge by key and lists replace; a mapping of
    another `kind` replaces the whole mapping. `stand_ins:` of a file replace corpora of the recipe before it (`recipe_merge`),
    `at_most:` and `at_least:` bound what comes out (`recipe_scale`).

    Raises:
        ConfigError: a file cannot be read, or the result is no recipe; one line a problem.

    """
    return _loaded({}, {}, files, overrides, text)


def load_over(
    base: dict[str, Any], files: Sequence[str | Path], overrides: Sequence[str], shape: Callable[[dict[str, Any]], dict[str, Any]]
) -> Recipe:
    """Merge files over plain data, set `dotted.key=value`, and let `shape` make a recipe of what comes out.

    Raises:
        ConfigError: as `load_recipe` does, or what `shape` raises.

    """
    origins: Origins = {}
    return _validated(shape(_laid(base, origins, files, overrides)), origins)


def read_settings(files: Sequence[str | Path], overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return files merged left to right, with `dotted.key=value` set, as plain data that need not be a recipe.

    Raises:
        ConfigError: a file cannot be read.

    """
    return _laid({}, {}, files, overrides)


def _loaded(
    data: dict[str, Any], origins: Origins, files: Sequence[str | Path], overrides: Sequence[str], text: Sequence[str] = ()
) -> Recipe:
    data = _laid(data, origins, files, overrides, text)
    limits = [data.pop(key, None) for key in (AT_MOST, AT_LEAST)]
    recipe = _validated(data, origins)
    return _validated(scaled(recipe_to_json(recipe), *limits), origins) if limits != [None, None] else recipe


def _laid(
    data: dict[str, Any], origins: Origins, files: Sequence[str | Path], overrides: Sequence[str], text: Sequence[str] = ()
) -> dict[str, Any]:
    for file in files:
        data = laid_over(data, _read_file(Path(file), origins, ()))
    if STAND_INS in data:
        raise ConfigError(f"{STAND_INS}: no recipe is listed before this file ({origins[(STAND_INS,)].place}); list it after one.")
    if text:
        data = _over_text(data, list(text))
    # Kinds first: another kind drops the settings of the old one, and must not drop those given beside it.
    for override in sorted(overrides, key=lambda text: not text.partition("=")[0].endswith("kind")):
        data = _override(data, override, origins)
    return data


def overlaid(recipe: Recipe, files: Sequence[str | Path], overrides: Sequence[str]) -> Recipe:
    """Return a recipe with files merged over it, left to right, and then `dotted.key=value` set.

    Raises:
        ConfigError: a file cannot be read, or the result is no recipe; one line a problem.

    """
    return _loaded(recipe_to_json(recipe), {}, files, overrides)


def dump_recipe(recipe: Recipe) -> str:
    """Return the whole recipe, defaults included, as YAML that `load_recipe` reads back."""
    return dump(recipe_to_json(recipe))


def recipe_to_json(recipe: Recipe) -> dict[str, Any]:
    """Return the whole recipe, defaults included, as plain data."""
    return recipe.model_dump(mode="json")


def recipe_from_json(value: Mapping[str, Any]) -> Recipe:
    """Read what `recipe_to_json` gave.

    Raises:
        ConfigError: it is no recipe; one line a problem.

    """
    return _validated(value, {})


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write the whole recipe as JSON, atomically.

    Raises:
        StorageError: the disk is full or cannot be written.

    """
    write_json(path, recipe_to_json(recipe))


def read_recipe(path: Path) -> Recipe:
    """Read what `save_recipe` wrote.

    Raises:
        DataUnavailableError: the file is missing or is not JSON.
        ConfigError: it is no recipe; one line a problem.

    """
    return _validated(read_json(path), {(): Origin(str(path))})


def flatten(recipe: Recipe) -> dict[str, Any]:
    """Return every setting by its dotted path; lists of plain values stay whole."""
    return dict(_leaves((), recipe_to_json(recipe)))


def recipe_diff(before: Recipe, after: Recipe) -> list[tuple[str, Any, Any]]:
    """Return (dotted path, value before, value after) of all that differs; None stands for a key that is not there."""
    one, other = flatten(before), flatten(after)
    return [(key, one.get(key), other.get(key)) for key in dict.fromkeys([*one, *other]) if one.get(key) != other.get(key)]


def recipe_schema() -> dict[str, Any]:
    """Return the JSON schema of a recipe file, for editors; a file may leave out what another one gives."""
    schema = Recipe.model_json_schema()
    names = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
    for key, way in ((AT_MOST, "Upper"), (AT_LEAST, "Lower")):
        schema["properties"][key] = {"type": "object", "description": f"{way} bounds of the settings, shaped like a recipe."}
    schema["properties"][STAND_INS] = {"type": "object", "description": "Sources, by name, in place of a recipe's, and tasks over its own."}
    schema["properties"]["extends"] = names | {"description": "Recipe files to start from, relative to this one."}
    schema.pop("required", None)
    return schema


def _leaves(keys: Keys, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        parts = list(value.items())
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        parts = [(str(number), item) for number, item in enumerate(value)]
    else:
        yield ".".join(keys), value
        return
    for key, item in parts:
        yield from _leaves((*keys, key), item)


def _validated(data: Any, origins: Origins) -> Recipe:
    try:
        # The JSON mode of pydantic is strict about types, yet takes a list for a tuple and 1 for 1.0.
        return Recipe.model_validate_json(json.dumps(data, allow_nan=False))
    except ValidationError as error:
        raise ConfigError(explain(error, data, origins)) from error
    except ValueError as error:
        raise ConfigError(f"a number is not finite ({origins[()].place if () in origins else 'JSON'})") from error


def _read_file(path: Path, origins: Origins, parents: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in parents:
        circle = " -> ".join(str(parent) for parent in (*parents, path.resolve()))
        raise ConfigError(f"extends: {circle} is a circle; remove one of them.")
    data, own = parse(_read_text(path), str(path))
    data = {} if data is None else data
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: this is {kind_of(data)}, but a recipe is a mapping; write key: value.")
    base: dict[str, Any] = {}
    for name in _extended(data.pop("extends", []), own):
        base = laid_over(base, _read_file(path.parent / name, origins, (*parents, path.resolve())))
    # What is laid over a task stands in the recipe under the task's own name.
    origins.update(own | {keys[1:]: origin for keys, origin in own.items() if keys[:2] == (STAND_INS, "tasks")})
    return laid_over(base, data)


def _extended(names: Any, origins: Origins) -> list[str]:
    names = [names] if isinstance(names, str) else names
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise ConfigError(f"extends: write the name of a file, or a list of names ({origins[('extends',)].place})")
    return names


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_BYTES + 1)
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start:,} is not UTF-8; save the file as UTF-8 text.") from error
    except (OSError, ValueError) as error:
        found = [str(other) for other in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        near = difflib.get_close_matches(str(path), found, n=1)
        hint = f"did you mean {near[0]}?" if near else "check the name."
        raise ConfigError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}); {hint}") from error
    if len(data) > LARGEST_BYTES:
        raise ConfigError(f"{path}: larger than {LARGEST_BYTES:,} bytes; a recipe names its data, it does not hold them.")
    return text


def _over_text(data: dict[str, Any], paths: list[str]) -> dict[str, Any]:
    tasks = data.get("tasks")
    if isinstance(tasks, dict):
        tasks = {name: task | {"sources": []} if isinstance(task, dict) else task for name, task in tasks.items()}
        data = data | {"tasks": tasks}
    return data | {"sources": {"text": {"kind": "text", "paths": paths}}}


def _override(data: dict[str, Any], override: str, origins: Origins) -> dict[str, Any]:
    dotted, equals, text = override.partition("=")
    parts = re.sub(r"\[(-?\d+)\]", r".\1", dotted.strip()).split(".")
    if not equals or not all(parts):
        raise ConfigError(f"{override}: write dotted.key=value, for example optimizer.learning_rate=1e-4 ({COMMAND_LINE})")
    # A run is often named by a date or a number, and its name is text whatever it looks like.
    value, own = (text, {(): Origin(COMMAND_LINE)}) if parts == ["name"] else parse(text, "")
    keys = _resolved(data, parts, origins)
    origins[keys] = Origin(COMMAND_LINE)
    origins.update({keys + inside: origin for inside, origin in own.items()})
    return _set(data, keys, value)


def _resolved(data: Any, parts: Sequence[str], origins: Origins) -> Keys:
    """Return the path with the numbers of lists checked and counted from the front; note which mappings are new."""
    keys: Keys = ()
    for part in parts:
        if isinstance(data, list):
            number = _number(part, len(data), keys)
            keys, data = (*keys, str(number)), data[number]
            continue
        if not isinstance(data, dict):
            origins[keys], data = Origin(COMMAND_LINE), {}
        keys, data = (*keys, part), data.get(part)
    return keys


def _number(part: str, length: int, keys: Keys) -> int:
    if re.fullmatch(r"-?\d{1,9}", part) and -length <= int(part) < length:
        return int(part) % length
    numbers = f"write a number from 0 to {length - 1} after it" if length else "it is empty, so give the whole list"
    raise ConfigError(f"{'.'.join((*keys, part))}: {'.'.join(keys)} is a list; {numbers} ({COMMAND_LINE})")


def _set(data: Any, keys: Keys, value: Any) -> Any:
    if not keys:
        return merged(data, value)
    first, rest = keys[0], keys[1:]
    if isinstance(data, list):
        return [_set(item, rest, value) if number == int(first) else item for number, item in enumerate(data)]
    return merged(data, {first: _set(data.get(first) if isinstance(data, dict) else None, rest, value)})
