"""The settings of a recipe that are not the defaults."""

from __future__ import annotations

from typing import Any

from ptm_dist.recipe import Recipe
from ptm_dist.recipe_io import recipe_to_json
from ptm_dist.recipe_yaml import dump


def changed_yaml(recipe: Recipe) -> str:
    """Return the settings of a recipe that differ from the defaults, as YAML; what has a kind keeps it."""
    return dump(_with_kinds(recipe.model_dump(mode="json", exclude_defaults=True), recipe_to_json(recipe)))


def _with_kinds(changed: Any, whole: Any) -> Any:
    if isinstance(changed, dict) and isinstance(whole, dict):
        kind = {"kind": whole["kind"]} if "kind" in whole else {}
        return kind | {key: _with_kinds(value, whole.get(key)) for key, value in changed.items()}
    if isinstance(changed, list) and isinstance(whole, list) and len(changed) == len(whole):
        return [_with_kinds(one, other) for one, other in zip(changed, whole, strict=True)]
    return changed
