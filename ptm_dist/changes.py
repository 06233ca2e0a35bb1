"""What may change between the attempts of a run: every key of a recipe is frozen, allowed, or changed for a stated reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias

from pydantic import BaseModel

Change: TypeAlias = Literal["frozen", "allowed", "reason"]
"""frozen: another value makes another run. allowed: says how the work is done, not what comes out, and enters no digest.
reason: the run goes on with `--because`, and its history says so."""

ALLOWED: Final[dict[str, Any]] = {"change": "allowed"}
REASON: Final[dict[str, Any]] = {"change": "reason"}


def tag_of(section: type[BaseModel], field: str) -> Change | None:
    """Return the tag of a field: its own, or that of its class; None where nobody has given one."""
    extra: Any = section.model_fields[field].json_schema_extra
    return (extra or {}).get("change") or getattr(section, "change", None)


def change_of(section: BaseModel, keys: Sequence[str]) -> Change:
    """Return the tag of the setting at a dotted path below a recipe, which plug-ins refine."""
    if keys[0] not in type(section).model_fields:
        return "frozen"
    value = getattr(section, keys[0])
    if len(keys) > 1 and isinstance(value, BaseModel) and hasattr(type(value), "change"):
        return change_of(value, keys[1:])
    return tag_of(type(section), keys[0]) or "frozen"
