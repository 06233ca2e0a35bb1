"""What is wrong with a recipe, one line a problem: the dotted path, what was found, what to write, and where it was written."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final

from pydantic import ValidationError

from ptm_dist.recipe import Recipe
from ptm_dist.recipe_yaml import Keys, Origin, Origins

_THEIR_NAMES: Final = {
    "batch.micro": "per_device_train_batch_size micro_batch_size train_micro_batch_size_per_gpu",
    "batch.rows": "batch_size train_batch_size global_batch_size",
    "batch.tokens": "max_tokens tokens_per_batch gradient_accumulation_steps update_freq",
    "stages.0.steps": "max_steps train_iters max_update total_steps num_train_steps num_train_epochs epochs",
    "optimizer.learning_rate": "lr peak_lr max_lr",
    "optimizer.schedule.warmup_steps": "num_warmup_steps warmup_updates lr_warmup_iters",
    "optimizer.schedule.kind": "lr_scheduler_type lr_scheduler lr_decay_style",
    "optimizer.eps": "adam_epsilon adam_eps",
    "optimizer.betas": "adam_betas adam_beta1 adam_beta2",
    "optimizer.clip_norm": "max_grad_norm clip_grad grad_clip gradient_clipping",
    "model.hidden": "hidden_size d_model encoder_embed_dim n_embd",
    "model.layers": "num_hidden_layers num_layers encoder_layers n_layer",
    "model.heads": "num_attention_heads encoder_attention_heads n_head",
    "model.intermediate": "intermediate_size ffn_hidden_size encoder_ffn_embed_dim",
    "model.positions": "max_position_embeddings max_positions",
    "model.activation": "hidden_act activation_fn",
    "model.dropout": "hidden_dropout_prob hidden_dropout",
    "model.attention_dropout": "attention_probs_dropout_prob",
    "model.norm_eps": "layer_norm_eps",
    "model.init_std": "initializer_range",
    "tasks.NAME.format.length": "max_seq_length max_length seq_length tokens_per_sample block_size",
    "tasks.NAME.format.reuse": "reuse_len",
    "tasks.NAME.format.both_directions": "bi_data",
    "model.memory_length": "mem_len",
    "tasks.NAME.objectives.0.most": "max_predictions_per_seq max_predictions",
    "tasks.NAME.objectives.0.static_masks": "dupe_factor",
    "tasks.NAME.objectives.0.mask_share": "mask_replace_prob",
    "tasks.NAME.objectives.0.random_share": "random_replace_prob random_token_prob",
    "tasks.NAME.objectives.0.rate": "mlm_probability mask_prob masked_lm_prob",
    "tasks.NAME.objectives.0.unit": "wwm whole_word_mask whole_word_masking masking",
    "sources.NAME.paths": "train_file train_data data_path input_file",
    "engine.workers": "num_gpus world_size nproc_per_node n_gpu",
    "engine.zero_stage": "zero_optimization zero",
    "engine.precision": "bf16 fp16 dtype mixed_precision",
    "checkpoint.every_steps": "save_steps save_interval save_interval_updates",
    "checkpoint.keep_last": "save_total_limit keep_interval_updates",
    "evaluate.every_steps": "eval_steps eval_interval validate_interval_updates",
    "data.loader_processes": "num_workers dataloader_num_workers",
    "init": "model_name_or_path init_checkpoint pretrained",
}
FOREIGN_NAMES: Final = {theirs: ours for ours, names in _THEIR_NAMES.items() for theirs in names.split()}
"""What other frameworks call our keys."""

_WANTED: Final = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
}
_KINDS: Final = {
    str: "text",
    bool: "a truth value",
    int: "a number",
    float: "a decimal number",
    list: "a list",
    dict: "a mapping",
}


def explain(error: ValidationError, data: Any, origins: Origins) -> str:
    """Return one line a problem of `data`."""
    items = error.errors(include_url=False)
    return "\n".join(dict.fromkeys(_line(item, data, origins) for item in items if not _follows(item, items)))


def kind_of(value: Any) -> str:
    """Return what a plain value is, in the words of a recipe's author."""
    return _KINDS.get(type(value), "no value")


def _follows(item: Any, items: Sequence[Any]) -> bool:
    """Is this a list that is too short only because what it holds is wrong?"""
    return item["type"] == "too_short" and any(other["loc"][: len(item["loc"])] == item["loc"] != other["loc"] for other in items)


def _line(item: Any, data: Any, origins: Origins) -> str:
    keys = tuple(str(key) for key in item["loc"] if key != "[key]")
    if item["type"] in ("plugin_kind", "plugin_import", "plugin_class"):
        keys = (*keys, "kind")
    problem = _problem(item, keys, data, _shown(item["input"], origins.get(keys)))
    # A check across sections belongs to none of them, so its message begins with the path that it means.
    meant = keys or tuple(re.split(r"[:\s]", problem)[0].split("."))
    place = _place(meant[:-1] if item["type"] == "missing" else meant, origins)
    return (f"{'.'.join(keys)}: " if keys else "") + problem + (f" ({place})" if place else "")


def _problem(item: Any, keys: Keys, data: Any, shown: str) -> str:
    kind, value = item["type"], item["input"]
    if kind == "extra_forbidden":
        return f"unknown key; {_instead_of(keys, data)}"
    if kind == "missing":
        return "missing; add it"
    if kind in _WANTED:
        return f"{shown} is {kind_of(value)}; write {_rewritten(kind, value, shown, ''.join(keys[-1:])) or _WANTED[kind]}"
    if kind == "literal_error":
        return f"{shown} is none of the choices; write {item['ctx']['expected']}"
    message = item["msg"].removeprefix("Value error, ").replace(" after validation", "")
    subject, should, rest = message.partition(" should ")
    return f"{shown}{should}{rest}" if subject in ("Input", "String", "Tuple", "List", "Dictionary") else message


def _shown(value: Any, origin: Origin | None) -> str:
    """Return a scalar as it was typed, text in quotes; what is long is cut."""
    if isinstance(value, list | dict):
        return "this"
    text = origin.text if origin and origin.text and not isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _place(keys: Keys, origins: Origins) -> str:
    """Return where the nearest part of the path that was written at all was written."""
    return next((origins[keys[:depth]].place for depth in range(len(keys), -1, -1) if keys[:depth] in origins), "")


def _rewritten(kind: str, value: Any, shown: str, key: str) -> str | None:
    """Return the right way to write `value`, if it is plain what was meant."""
    if kind == "string_type" and isinstance(value, bool | int | float):
        return f'"{shown}"' if key.isdigit() else f'{key}: "{shown}"'
    if kind in ("tuple_type", "list_type") and isinstance(value, str | bool | int | float):
        return f"{key}: [{shown}]"
    if kind == "bool_type":
        return {"yes": "true", "on": "true", "1": "true", "no": "false", "off": "false", "0": "false"}.get(str(value).lower())
    if kind in ("int_type", "int_from_float", "float_type") and isinstance(value, str | float):
        return _number(value, whole=kind != "float_type")
    return None


def _number(value: str | float, *, whole: bool) -> str | None:
    try:
        number = float(value)
    except ValueError:
        return None
    if not math.isfinite(number):
        return None
    return str(int(number)) if number.is_integer() else None if whole else repr(number)


def _instead_of(keys: Keys, data: Any) -> str:
    key = keys[-1]
    if key in FOREIGN_NAMES:
        return f"here: {FOREIGN_NAMES[key]}"
    siblings = _fields(keys[:-1], data)
    if near := difflib.get_close_matches(key, siblings, n=1):
        return f"did you mean {near[0]}?"
    if elsewhere := next((".".join(path) for path in known_keys() if path[-1] == key), None):
        return f"here: {elsewhere}"
    return f"one of: {', '.join(siblings)}" if siblings else "remove it"


@cache
def _schema() -> dict[str, Any]:
    return Recipe.model_json_schema()


def _fields(keys: Keys, data: Any) -> list[str]:
    """Return which keys may stand at a path, given the kinds that the data names on the way; none for a class from outside."""
    node = _schema()
    for key in keys:
        node = _class(node, data)
        node = node.get("properties", {}).get(key) or next((child for _, child in _unnamed(node)), {})
        data = data[int(key)] if isinstance(data, list) else data.get(key) if isinstance(data, dict) else None
    return list(_class(node, data).get("properties", {}))


def _class(node: Any, value: Any) -> dict[str, Any]:
    kind = value.get("kind") if isinstance(value, dict) else None
    options = [_referred(option) for option in node.get("anyOf", [node])]
    return next((option for option in options if option.get("properties", {}).get("kind", {}).get("const", kind) == kind), {})


def _referred(node: Any) -> dict[str, Any]:
    return _schema()["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node


def _unnamed(node: Any) -> list[tuple[str, Any]]:
    """Return what lies under names that the recipe gives (NAME) or under numbers (0)."""
    children = [("NAME", child) for child in (*node.get("patternProperties", {}).values(), node.get("additionalProperties"))]
    return [(name, child) for name, child in [*children, ("0", node.get("items"))] if isinstance(child, dict)]


@cache
def known_keys() -> tuple[Keys, ...]:
    """Return the path of every key of a recipe; NAME stands for a name that the recipe gives, 0 for any number."""
    return tuple(dict.fromkeys(_walk(_schema(), ())))


def _walk(node: Any, keys: Keys) -> Iterator[Keys]:
    for option in map(_referred, node.get("anyOf", [node])):
        for name, child in [*option.get("properties", {}).items(), *_unnamed(option)]:
            yield (*keys, name)
            yield from _walk(child, (*keys, name))
