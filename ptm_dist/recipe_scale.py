"""Recipes made small: numbers that are at most so large, and fewer steps in proportion.

`at_most:` in a recipe file is shaped like a recipe, with a number wherever a setting shall be no larger; `*` stands for every name or
entry, a number beside a list bounds each number in it, and what a recipe does not have is passed over, so that one file serves all
families. Its key `steps` bounds the steps of the whole run: stages, schedules and warm-ups shrink alike.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Final

from ptm_dist.errors import ConfigError

AT_MOST: Final = "at_most"
STEPS: Final = "steps"


def scaled(plain: dict[str, Any], limits: Any) -> dict[str, Any]:
    """Return a whole recipe, as plain data, within its limits.

    Raises:
        ConfigError: the limits are none, or are of a part that no recipe has.

    """
    if not isinstance(limits, dict):
        raise ConfigError(
            f"{AT_MOST}: {limits!r} is no mapping; write it like a recipe, with a number wherever a setting shall be no larger."
        )
    unknown = [name for name in limits if name not in {*plain, STEPS}]
    if unknown:
        near = difflib.get_close_matches(str(unknown[0]), [*plain, STEPS], n=1)
        raise ConfigError(f"{AT_MOST}.{unknown[0]}: no recipe has that; {f'did you mean {near[0]}?' if near else 'remove it'}")
    found = _bounded(plain, {name: limit for name, limit in limits.items() if name != STEPS}, AT_MOST)
    return _shortened(found, limits[STEPS]) if STEPS in limits else found


def _bounded(value: Any, limit: Any, path: str) -> Any:
    if isinstance(limit, dict):
        return _bounded_parts(value, limit, path)
    if isinstance(limit, bool) or not isinstance(limit, int | float) or limit <= 0:
        raise ConfigError(f"{path}: {limit!r} is no number above 0, which a limit is.")
    if isinstance(value, list):
        return [_bounded(item, limit, path) for item in value]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return min(value, limit) if is_number else value


def _bounded_parts(value: Any, limits: Mapping[str, Any], path: str) -> Any:
    if isinstance(value, list):
        return [_bounded(item, limits["*"], f"{path}.*") for item in value] if "*" in limits else value
    if not isinstance(value, dict):
        return value
    for name, limit in limits.items():
        for key in value if name == "*" else value.keys() & {name}:
            value = value | {key: _bounded(value[key], limit, f"{path}.{name}")}
    return value


def _shortened(plain: dict[str, Any], most: Any) -> dict[str, Any]:
    """Return the recipe with as many steps in all, at least one of each task in each stage."""
    if isinstance(most, bool) or not isinstance(most, int) or most <= 0:
        raise ConfigError(f"{AT_MOST}.{STEPS}: {most!r} is no whole number above 0.")
    schedule = plain["schedule"]
    total = (
        len(schedule["tasks"]) * schedule["steps_per_task"] if schedule else sum(sum(stage["steps"].values()) for stage in plain["stages"])
    )
    if total <= most:
        return plain

    def fewer(steps: int) -> int:
        return max(1, round(steps * most / total))

    stages = [stage | {"steps": {task: fewer(steps) for task, steps in stage["steps"].items()}} for stage in plain["stages"]]
    rate = plain["optimizer"]["schedule"]
    warmup = {"warmup_steps": fewer(rate["warmup_steps"])} if rate.get("warmup_steps") else {}
    return plain | {
        "stages": stages,
        "schedule": schedule and schedule | {"steps_per_task": fewer(schedule["steps_per_task"])},
        "optimizer": plain["optimizer"] | {"schedule": rate | warmup},
    }
