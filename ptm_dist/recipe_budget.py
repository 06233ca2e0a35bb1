"""Budgets: how long a stage trains a task, in tokens, epochs or hours in place of updates.

What an update takes is known when data are prepared and, for hours, when steps have been timed; then budgets become updates, for good.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import Field, PlainValidator
from pydantic_core import PydanticCustomError, PydanticKnownError

from ptm_dist.errors import ConfigError

Unit: TypeAlias = Literal["tokens", "epochs", "hours"]
Slot: TypeAlias = tuple[str, str]
"""The names of a stage and of a task in it."""

_UNITS: Final[dict[str, tuple[Unit, Fraction]]] = {
    "tokens": ("tokens", Fraction(1)),
    "token": ("tokens", Fraction(1)),
    "epochs": ("epochs", Fraction(1)),
    "epoch": ("epochs", Fraction(1)),
    "hours": ("hours", Fraction(1)),
    "hour": ("hours", Fraction(1)),
    "minutes": ("hours", Fraction(1, 60)),
    "minute": ("hours", Fraction(1, 60)),
}
_LARGE: Final = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
# Two digits of an exponent: a number of a billion digits would be worked out for ever.
_FORM: Final = r"([0-9]+(?:\.[0-9]+)?(?:[eE][0-9]{1,2})?)([KMBT]?) +([a-z]+)"
_ADVICE: Final = "write it like 900000, 40 epochs, 137B tokens, 3.3e9 tokens, 2.5 hours or 90 minutes"


@dataclass(frozen=True)
class Budget:
    """So much of what a task is trained for; equal amounts are equal budgets, however they are written."""

    amount: Fraction
    unit: Unit


def parse_budget(text: str) -> Budget:
    """Return what a text such as `40 epochs` says.

    Raises:
        ValueError: it is no budget; the message says what to write.

    """
    match = re.fullmatch(_FORM, text.strip())
    if match is None:
        raise ValueError(f"{json.dumps(text, ensure_ascii=False)} is no number of updates and no budget; {_ADVICE}")
    number, large, unit = match.groups()
    amount = Fraction(number) * _LARGE[large]
    if unit in ("steps", "updates") and amount.denominator == 1:
        raise ValueError(f'"{text}" is in updates, which need no unit; write {amount}')
    if unit not in _UNITS:
        near = difflib.get_close_matches(unit, _UNITS, n=1)
        raise ValueError(f'"{text}": {unit} is no unit; {f"did you mean {near[0]}?" if near else "write tokens, epochs, hours or minutes"}')
    if not amount:
        raise ValueError(f'"{text}" should be more than 0')
    name, size = _UNITS[unit]
    return Budget(amount * size, name)


def _checked(value: Any) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool):
        if value > 0:
            return value
        raise PydanticKnownError("greater_than", {"gt": 0})
    if not isinstance(value, str) or _is_number(value):
        raise PydanticKnownError("int_type")
    try:
        parse_budget(value)
    except ValueError as error:
        raise PydanticCustomError("budget", "{why}", {"why": str(error)}) from error
    return " ".join(value.split())


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


Steps: TypeAlias = Annotated[
    int | str, PlainValidator(_checked, json_schema_input_type=Annotated[int, Field(gt=0)] | Annotated[str, Field(pattern=rf"^{_FORM}$")])
]
"""A whole number of updates, or the text of a budget."""


@dataclass(frozen=True)
class Update:
    """What one update of a full batch takes; None is not known."""

    tokens: Fraction | None = None
    epochs: Fraction | None = None
    hours: Fraction | None = None

    def fit_into(self, budget: Budget) -> Fraction | None:
        """Return how many updates a budget is, not rounded."""
        share: Fraction | None = getattr(self, budget.unit)
        return None if share is None else budget.amount / share


def unsettled(slots: Iterable[tuple[Slot, str]]) -> ConfigError:
    """Return the error of asking for the steps of budgets that have not become steps."""
    told = ", ".join(f"{budget} of {task} in stage {stage}" for (stage, task), budget in slots)
    return ConfigError(
        f"stages: the steps of {told} are not known here. ptm run and ptm train find them and keep them in the run; "
        "in other places write a whole number of updates."
    )
