"""Recipes made small: numbers that are at most so large, or at least, and fewer steps in proportion.

`at_most:` in a recipe file is shaped like a recipe, with a number wherever a setting shall be no larger; `*` stands for every name or
entry, a number beside a list bounds each number in it, and what a recipe does not have is passed over, so that one file serves all
families. Limits that have a `kind` are for parts of that kind; several may be listed. The key `steps` bounds the steps of the whole run:
stages, schedules and warm-ups shrink alike. `at_least:` is the same from below, without `steps`, and comes after it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any, Final, TypeAlias

from ptm_dist.errors import ConfigError

AT_MOST: Final = "at_most"
AT_LEAST: Final = "at_least"
STEPS: Final = "steps"
Bound: TypeAlias = Callable[[float, float], float]


def scaled(plain: dict[str, Any], most: Any = None, least: Any = None) -> dict[str, Any]:
    """Return a whole recipe, as plain data, within the limits of `at_most:` and `at_least:`.

    Raises:
        ConfigError: the limits are none, or are of a part that no recipe has.

    """
    if most is not None:
        limits = _limits(most, AT_MOST, [*plain, STEPS])
        _require_updates(plain["stages"], limits, AT_MOST)
        plain = _bounded(plain, {name: limit for name, limit in limits.items() if name != STEPS}, AT_MOST, min)
        plain = _shortened(plain, limits[STEPS]) if STEPS in limits else plain
    if least is not None:
        limits = _limits(least, AT_LEAST, list(plain))
        _require_updates(plain["stages"], limits, AT_LEAST)
        plain = _bounded(plain, limits, AT_LEAST, max)
    return plain


def _limits(limits: Any, key: str, parts: list[str]) -> dict[str, Any]:
    if not isinstance(limits, dict):
        raise ConfigError(f"{key}: {limits!r} is no mapping; write it like a recipe, with a number wherever a setting shall be bounded.")
    unknown = [name for name in limits if name not in parts]
    if unknown:
        near = difflib.get_close_matches(str(unknown[0]), parts, n=1)
        raise ConfigError(f"{key}.{unknown[0]}: no recipe has that; {f'did you mean {near[0]}?' if near else 'remove it'}")
    return limits


def _reaches(limits: Any, name: str) -> bool:
    return isinstance(limits, dict) and (name in limits or any(_reaches(part, name) for part in limits.values()))


def _require_updates(stages: list[dict[str, Any]], limits: dict[str, Any], key: str) -> None:
    """Refuse bounds of steps where there are budgets: how many steps those are is known when data are prepared."""
    for number, stage in enumerate(stages if STEPS in limits or _reaches(limits.get("stages"), STEPS) else ()):
        for task, budget in stage[STEPS].items():
            if isinstance(budget, str):
                path = f"stages.{number}.{STEPS}.{task}"
                raise ConfigError(
                    f"{key}: {path} is {budget}, and how many steps that is is known when data are prepared; "
                    f"to bound steps write some there, such as {path}=1500"
                )


def _bounded(value: Any, limit: Any, path: str, bound: Bound) -> Any:
    if isinstance(limit, list):
        return reduce(lambda found, item: _bounded(found, item, path, bound), limit, value)
    if isinstance(limit, dict):
        return _bounded_parts(value, limit, path, bound)
    if isinstance(limit, bool) or not isinstance(limit, int | float) or limit < 0:
        raise ConfigError(f"{path}: {limit!r} is no number from 0 up, which a limit is.")
    if isinstance(value, list):
        return [_bounded(item, limit, path, bound) for item in value]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return bound(value, limit) if is_number else value


def _bounded_parts(value: Any, limits: Mapping[str, Any], path: str, bound: Bound) -> Any:
    if isinstance(value, list):
        return [_bounded(item, limits["*"], f"{path}.*", bound) for item in value] if "*" in limits else value
    if not isinstance(value, dict) or ("kind" in limits and limits["kind"] != value.get("kind")):
        return value
    for name, limit in ((name, limit) for name, limit in limits.items() if name != "kind"):
        for key in value if name == "*" else value.keys() & {name}:
            value = value | {key: _bounded(value[key], limit, f"{path}.{name}", bound)}
    return value


def _shortened(plain: dict[str, Any], most: Any) -> dict[str, Any]:
    """Return the recipe with as many steps in all, at least one of each task in each stage."""
    if isinstance(most, bool) or not isinstance(most, int) or most <= 0:
        raise ConfigError(f"{AT_MOST}.{STEPS}: {most!r} is no whole number above 0.")
    schedule = plain["schedule"]
    total = len(schedule["tasks"]) * schedule["steps_per_task"] if schedule else 0
    total += sum(sum(stage["steps"].values()) for stage in plain["stages"])
    if total <= most:
        return plain

    def fewer(steps: int) -> int:
        return max(1, round(steps * most / total))

    stages = [stage | {"steps": {task: fewer(steps) for task, steps in stage["steps"].items()}} for stage in plain["stages"]]
    rate = plain["optimizer"]["schedule"]
    warmup = {"warmup_steps": fewer(rate["warmup_steps"])} if isinstance(rate.get("warmup_steps"), int) and rate["warmup_steps"] else {}
    return plain | {
        "stages": stages,
        "schedule": schedule and schedule | {"steps_per_task": fewer(schedule["steps_per_task"])},
        "optimizer": plain["optimizer"] | {"schedule": rate | warmup},
    }
