"""A field of a recipe that holds one of several plug-ins: the value of `kind` names the class, which validates the rest."""

from __future__ import annotations

import difflib
import importlib
import json
from collections.abc import Mapping
from functools import reduce
from operator import or_
from typing import Any

from pydantic import BaseModel, PlainValidator
from pydantic_core import PydanticCustomError


def plugin(table: Mapping[str, type[BaseModel]]) -> PlainValidator:
    """Return the validator of a field whose `kind` is a key of `table`, or `package.module:Class` for one outside the package."""

    def validate(value: Any) -> BaseModel:
        if isinstance(value, BaseModel):
            return value
        if not isinstance(value, dict):
            raise PydanticCustomError("plugin_shape", "expected a mapping with a 'kind', got {value}", {"value": repr(value)})
        known = ", ".join(sorted(table))
        kind = value.get("kind")
        if kind is None:
            raise PydanticCustomError("plugin_kind_missing", "'kind' is missing; one of: {known}", {"known": known})
        found = table.get(kind) if isinstance(kind, str) else None
        if found is None and isinstance(kind, str) and ":" in kind:
            found = _import(kind)
        if found is None:
            near = difflib.get_close_matches(str(kind), table, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"one of: {known}, or package.module:Class"
            raise PydanticCustomError("plugin_kind", "unknown kind {kind}; {hint}", {"kind": repr(kind), "hint": hint})
        return found.model_validate_json(json.dumps(value))

    return PlainValidator(validate, json_schema_input_type=reduce(or_, table.values()))


def _import(kind: str) -> type[BaseModel]:
    module_name, _, class_name = kind.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        hint = "; add its folder to PYTHONPATH" if isinstance(error, ModuleNotFoundError) else ""
        raise PydanticCustomError("plugin_import", "cannot import {kind}: {why}", {"kind": kind, "why": f"{error}{hint}"}) from error
    if not (isinstance(found, type) and issubclass(found, BaseModel)):
        raise PydanticCustomError("plugin_class", "{kind} is not a pydantic model", {"kind": kind})
    return found
