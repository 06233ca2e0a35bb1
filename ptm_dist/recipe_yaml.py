"""The YAML of recipes: the safe part of version 1.2, with the place where each value was written.

`1e-4` is a number and `yes` is text; anchors, tags, repeated keys and numbers that are not finite are refused.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final, NamedTuple, NoReturn, TypeAlias

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from ptm_dist.errors import ConfigError

DEEPEST: Final = 40
"""Levels of nesting; a recipe has about eight."""
COMMAND_LINE: Final = "command line"

Keys: TypeAlias = tuple[str, ...]


class Origin(NamedTuple):
    """Where a value was written, and how, if it is a scalar."""

    place: str
    text: str = ""


Origins: TypeAlias = dict[Keys, Origin]


class _Refused(yaml.MarkedYAMLError):
    """Valid YAML that a recipe may not contain."""


def _refuse(problem: str, mark: yaml.Mark) -> NoReturn:
    raise _Refused(problem=problem, problem_mark=mark)


class _Loader(yaml.SafeLoader):
    """Composes nodes; nothing is ever constructed from tags."""

    yaml_implicit_resolvers = {}
    depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            _refuse(_NO_ALIASES, event.start_mark)
        if getattr(event, "tag", None):
            _refuse(f"the tag {event.tag} is not allowed; quote text that begins with '!'", event.start_mark)
        self.depth += 1
        if self.depth > DEEPEST:
            _refuse(f"nested deeper than {DEEPEST} levels", event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads."""

    yaml_implicit_resolvers = {}

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> ScalarNode:
        # Left alone, PyYAML writes U+0085 and U+2028 as line breaks and reads them back as spaces.
        return self.represent_scalar("tag:yaml.org,2002:str", data, None if data.isprintable() else '"')


_Dumper.add_representer(str, _Dumper.represent_str)

_NO_ALIASES: Final = "anchors and aliases (& and *) are not allowed; quote text that begins with & or *"
_ADVICE: Final = {
    r"'\\t'": "a tab stands where YAML wants spaces",
    "scanning an (alias|anchor)": _NO_ALIASES,
    "cannot start any token": "text that begins with @, ` or % must be quoted",
    "mapping values are not allowed": "a second ': ' in a line; quote text that contains one",
}
"""What to say instead of what PyYAML says."""
_SCALARS: Final = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+", list("-+0123456789")),
    "float": (r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.0123456789")),
}
"""What is not text: the core schema of YAML 1.2, without octal and hexadecimal integers."""
for _tag, (_pattern, _first) in _SCALARS.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), _first)


def parse(text: str, name: str) -> tuple[Any, Origins]:
    """Return the value that `text` says and the origin of each of its parts; an empty `name` stands for the command line.

    Raises:
        ConfigError: it is not YAML, or holds what a recipe may not; with file and line.

    """
    origins: Origins = {}
    try:
        loader = _Loader(text)
        loader.name = name
        node = loader.get_single_node()
        return (None if node is None else _built(node, (), node.start_mark, origins)), origins
    except yaml.MarkedYAMLError as error:
        said = f"{error.context}, {error.problem}" if error.context else str(error.problem)
        advice = next((advice for pattern, advice in _ADVICE.items() if re.search(pattern, said)), said)
        mark = error.problem_mark or error.context_mark
        raise ConfigError(f"{_place(mark) if mark else name or COMMAND_LINE}: {advice}.") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ConfigError(f"{name or COMMAND_LINE}: {' '.join(str(error).split())}.") from error


def dump(value: Any) -> str:
    """Return YAML that `parse` reads back."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def _place(mark: yaml.Mark) -> str:
    return f"{mark.name}:{mark.line + 1}" if mark.name else COMMAND_LINE


def _built(node: Node, keys: Keys, mark: yaml.Mark, origins: Origins) -> Any:
    origins[keys] = Origin(_place(mark), node.value if isinstance(node, ScalarNode) else "")
    if isinstance(node, SequenceNode):
        return [_built(item, (*keys, str(number)), item.start_mark, origins) for number, item in enumerate(node.value)]
    if isinstance(node, MappingNode):
        built: dict[str, Any] = {}
        for key, value in node.value:
            name = _text(key)
            if name in built:
                _refuse(f"{'.'.join((*keys, name))} is given twice; remove one", key.start_mark)
            built[name] = _built(value, (*keys, name), key.start_mark, origins)
        return built
    return _scalar(node)


def _text(node: Node) -> str:
    if not isinstance(node, ScalarNode):
        _refuse("a key must be text", node.start_mark)
    if re.search("[\0\ud800-\udfff]", node.value):
        _refuse("the text holds a character that is none (NUL or half of a surrogate pair)", node.start_mark)
    return node.value


def _scalar(node: Node) -> Any:
    match node.tag.rpartition(":")[2]:
        case "null":
            return None
        case "bool":
            return node.value.lower() == "true"
        case "int" if len(node.value) < 100:
            return int(node.value)
        case "int" | "float":
            number = float(re.sub(r"\.(?=[in])", "", node.value.lower()))
            if not math.isfinite(number):
                _refuse(f"{node.value[:40]} is not a finite number", node.start_mark)
            return number
        case _:
            return _text(node)
