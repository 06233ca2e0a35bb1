"""Recipe files laid over one another, and sources that stand in for the corpora of whatever recipe they are laid over.

`stand_ins:` in a file acts on the recipe before it, so that one file serves recipes that name their corpora differently:

    sources:
      docs: {kind: installed_docs}
    stand_ins:
      sources: {"*": docs}
      tasks: {discourse: {format: {kind: discourse, length: 512}, objectives: [...]}}

`sources` says which source of this file takes the place of a corpus of the recipe, `*` standing for each that is not named; those that take
no place are left out. `tasks` are laid over the recipe's tasks of these names; what a recipe does not have is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ptm_dist.errors import ConfigError

STAND_INS: Final = "stand_ins"
_PARTS: Final = ("sources", "tasks")


def merged(base: Any, over: Any) -> Any:
    """Return plain data with other data over it: mappings merge by key, lists replace; another `kind` replaces a whole mapping."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    if "kind" in base and "kind" in over and base["kind"] != over["kind"]:
        return over
    return base | {key: merged(base.get(key), value) for key, value in over.items()}


def laid_over(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe file over what comes before it, whose corpora its stand-ins replace; without a recipe before it they stay.

    Raises:
        ConfigError: the stand-ins are none.

    """
    if STAND_INS not in over or not base or STAND_INS in base:
        return merged(base, over)
    sources, tasks = _checked(over[STAND_INS])
    data = merged(base, {name: value for name, value in over.items() if name != STAND_INS})
    data = merged(data, {"tasks": {name: task for name, task in tasks.items() if name in _mapping(base, "tasks")}})
    return _with_sources(data, list(_mapping(base, "sources")), sources)


def _checked(stand_ins: Any) -> tuple[dict[str, str], dict[str, Any]]:
    if not isinstance(stand_ins, dict) or not all(isinstance(part, dict) for part in stand_ins.values()):
        raise ConfigError(f"{STAND_INS}: write mappings under {' and '.join(_PARTS)}, such as sources: {{'*': docs}}.")
    for unknown in stand_ins.keys() - set(_PARTS):
        raise ConfigError(f"{STAND_INS}.{unknown}: unknown key; one of: {', '.join(_PARTS)}")
    sources, tasks = (stand_ins.get(part, {}) for part in _PARTS)
    for name, stand_in in sources.items():
        if not isinstance(stand_in, str):
            raise ConfigError(f"{STAND_INS}.sources.{name}: {stand_in!r} is no text; write the name of a source.")
    return sources, tasks


def _mapping(data: Mapping[str, Any], part: str) -> dict[str, Any]:
    found = data.get(part)
    return found if isinstance(found, dict) else {}


def _with_sources(data: dict[str, Any], corpora: list[str], stand_ins: Mapping[str, str]) -> dict[str, Any]:
    """Return a recipe in which each of `corpora` is what stands in for it, in the sources and in the tasks that read it."""
    there = _mapping(data, "sources")
    for name, stand_in in stand_ins.items():
        if stand_in not in there:
            raise ConfigError(f"{STAND_INS}.sources.{name}: {stand_in!r} is not defined; there are: {', '.join(sorted(there))}")
    chosen = {name: stand_ins.get(name, stand_ins.get("*", name)) for name in corpora}
    left_out = ({*corpora, *stand_ins.values()}) - set(chosen.values())
    tasks = {name: _reading(task, chosen) for name, task in _mapping(data, "tasks").items()}
    sources = {name: source for name, source in there.items() if name not in left_out}
    return data | ({"tasks": tasks} if tasks else {}) | ({"sources": sources} if sources else {})


def _reading(task: Any, chosen: Mapping[str, str]) -> Any:
    if not isinstance(task, dict) or not isinstance(task.get("sources"), list):
        return task
    return task | {"sources": list(dict.fromkeys(chosen.get(name, name) for name in task["sources"]))}
