"""Items from lines of text or JSON, for predictions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from ptm_dist.data.item import ChoiceItem, Item, QuestionItem, TaggedItem, TextItem
from ptm_dist.errors import ConfigError

_CHINESE: Final = re.compile("[\u3400-\u9fff]")


def items_of(kind: str, lines: Iterable[str]) -> Iterator[Item]:
    """Yield the item of each line that is not empty; a line that begins with { is JSON.

    texts: a text, or two with a tab between them, or {"first": .., "second": ..}; tagged_words: words with spaces between them, Chinese by
    the character, or {"words": [..]}; questions: {"question": .., "context": ..}, or both with a tab between them; choices:
    {"context": .., "question": .., "choices": [..]}. JSON may have an "id"; otherwise the number of the line is the id.

    Raises:
        ConfigError: a line holds something else.

    """
    for number, line in enumerate(lines, 1):
        text = line.rstrip("\r\n")
        if not text.strip():
            continue
        try:
            data = json.loads(text) if text.startswith("{") else text.split("\t")
            yield _MAKERS[kind](str(data.get("id", number)) if isinstance(data, dict) else str(number), data)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise ConfigError(f"line {number}: this is no item of {kind} ({type(error).__name__}: {error}). {_FORMS[kind]}") from error


def _text(name: str, data: Any) -> TextItem:
    if isinstance(data, dict):
        return TextItem(name, _string(data["first"]), _string(data["second"]) if data.get("second") is not None else None)
    return TextItem(name, data[0], data[1] if len(data) > 1 else None)


def _words(name: str, data: Any) -> TaggedItem:
    if isinstance(data, dict):
        return TaggedItem(name, tuple(map(_string, data["words"])), joined=str(data.get("joined", " ")))
    if _CHINESE.search(data[0]) and " " not in data[0].strip():
        return TaggedItem(name, tuple(data[0].strip()), joined="")
    return TaggedItem(name, tuple(data[0].split()))


def _question(name: str, data: Any) -> QuestionItem:
    question, context = (data["question"], data["context"]) if isinstance(data, dict) else (data[0], data[1])
    return QuestionItem(name, _string(question), _string(context))


def _choice(name: str, data: Any) -> ChoiceItem:
    return ChoiceItem(name, _string(data["context"]), _string(data.get("question", "")), tuple(map(_string, data["choices"])))


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


_MAKERS: Final[dict[str, Callable[[str, Any], Item]]] = {"texts": _text, "tagged_words": _words, "questions": _question, "choices": _choice}
_FORMS: Final = {
    "texts": 'Write a text, two with a tab between them, or {"first": "..", "second": ".."}.',
    "tagged_words": 'Write words with spaces between them, or {"words": ["..", ".."]}.',
    "questions": 'Write {"question": "..", "context": ".."}.',
    "choices": 'Write {"context": "..", "question": "..", "choices": ["..", ".."]}.',
}
