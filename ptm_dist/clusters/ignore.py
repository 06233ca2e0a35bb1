"""Patterns of what to leave out, as git reads them in .gitignore; each is asked of a file or folder itself, never of what lies above."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_PLAIN_CLASS = re.compile(r"\[([!^]?)(\]?(?:\\.|\[:[a-z]+:\]|[^\]\\])*)\]")
_NAMED = {"alpha": "a-zA-Z", "digit": "0-9", "alnum": "a-zA-Z0-9", "upper": "A-Z", "lower": "a-z", "space": r"\s", "xdigit": "0-9a-fA-F"}


@dataclass(frozen=True)
class Pattern:
    """One line."""

    expression: re.Pattern[str]
    leaves_out: bool
    only_folders: bool
    by_name: bool
    """Is only the last part of a path looked at?"""

    def means(self, path: str, is_folder: bool) -> bool:
        """Does the line speak of this file or folder?"""
        shown = path.rpartition("/")[2] if self.by_name else path
        return (is_folder or not self.only_folders) and self.expression.fullmatch(shown) is not None


def read_patterns(lines: Iterable[str]) -> tuple[Pattern, ...]:
    """Return the patterns of lines; blank ones, remarks and those that can match nothing are none."""
    return tuple(pattern for pattern in map(_read, lines) if pattern is not None)


def leaves_out(patterns: tuple[Pattern, ...], path: str, is_folder: bool) -> bool:
    """Does the last line that speaks of a path leave it out?"""
    return next((pattern.leaves_out for pattern in reversed(patterns) if pattern.means(path, is_folder)), False)


def _read(line: str) -> Pattern | None:
    text = re.sub(r"(?<!\\) +$", "", line.rstrip("\r\n"))
    if not text or text.startswith("#"):
        return None
    negated, text = text.startswith("!"), text.removeprefix("!")
    only_folders, text = text.endswith("/"), text.removesuffix("/")
    by_name, text = "/" not in text, text.removeprefix("/")
    expression = _expression(text)
    return Pattern(expression, not negated, only_folders, by_name) if expression and text else None


def _expression(text: str) -> re.Pattern[str] | None:
    """Return what matches as a pattern does; None if it can match nothing."""
    parts, at = [], 0
    while at < len(text):
        rest, begins = text[at:], at == 0 or text[at - 1] == "/"
        if begins and (deep := re.match(r"\*\*(/|$)", rest)):
            parts.append("(?:.*/)?" if deep[1] else ".*")
            at += deep.end()
        elif stars := re.match(r"\*+", rest):
            parts.append("[^/]*")
            at += stars.end()
        elif rest[0] == "?":
            parts.append("[^/]")
            at += 1
        elif rest[0] == "[":
            group = _PLAIN_CLASS.match(rest)
            if group is None:
                return None
            parts.append(f"(?!/)[{'^' if group[1] else ''}{_inside(group[2])}]")
            at += group.end()
        else:
            escaped = rest[0] == "\\"
            if escaped and len(rest) == 1:
                return None
            parts.append(re.escape(rest[1] if escaped else rest[0]))
            at += 1 + escaped
    try:
        return re.compile("".join(parts), re.DOTALL)
    except re.error:
        return None


def _inside(text: str) -> str:
    """Return the inside of a class of letters for Python, which reads some signs otherwise."""
    pieces = re.findall(r"\\.|\[:[a-z]+:\]|.", text, re.DOTALL)
    return "".join(_NAMED.get(piece[2:-2], "") if piece[:2] == "[:" and len(piece) > 2 else _letter(piece) for piece in pieces)


def _letter(piece: str) -> str:
    return piece if piece == "-" else re.escape(piece[-1])
