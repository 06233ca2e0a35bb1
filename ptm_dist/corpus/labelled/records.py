"""The bytes of a file to records: lines, JSON, and what stands at a field. What is not UTF-8 stays recognisable until somebody asks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Final, NamedTuple, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict
from pydantic_core import PydanticCustomError

from ptm_dist.errors import ConfigError, DataIntegrityError

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class Placed(NamedTuple):
    """A record, where it stands, and in place of a record the reason why there is none."""

    where: str
    record: Any
    reason: str = ""


def _pattern(text: str) -> str:
    try:
        found = re.compile(text)
    except re.error as error:
        raise ValueError(f"no regular expression ({error})") from error
    if not found.groups:
        raise ValueError("the expression needs a group in brackets: what it finds is the text")
    return text


class Found(BaseModel):
    """What the group of a regular expression finds in the text of a field; where several texts are asked for, all that it finds."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    field: str
    pattern: Annotated[str, AfterValidator(_pattern)]


def _field(value: Any) -> str | int | Found:
    if isinstance(value, dict):
        return Found.model_validate(value)
    if isinstance(value, str | Found) or (type(value) is int and value >= 0):
        return value
    raise PydanticCustomError("field", "expected a name, a number from 0, or {field, pattern}, got {value}", {"value": repr(value)})


Field: TypeAlias = Annotated[str | int | Found, BeforeValidator(_field)]
"""Where something stands in a record: a name, a dotted path (`question.choices.0.text`), the number of a column from 0, or a part of it."""


def text_of(data: bytes) -> str:
    """Return a file as text without the mark at its beginning; bytes that are not UTF-8 become what `why_unusable` knows again."""
    return data.decode("utf-8", "surrogateescape").removeprefix("\ufeff")


def lines_of(data: bytes) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file with their numbers from 1, without what ends them."""
    for number, line in enumerate(text_of(data).split("\n"), 1):
        yield number, line.removesuffix("\r")


def is_broken(text: str) -> bool:
    """Is there something in it that was not UTF-8?"""
    return not text.isascii() and bool(_SURROGATE.search(text))


def why_unusable(*texts: Any, absent: str = "missing_field") -> str:
    """Return why one of some texts cannot be used, "" where all can; `absent` is the reason where one is none."""
    for text in texts:
        if not isinstance(text, str):
            return absent
        if is_broken(text):
            return "bad_encoding"
        if not text.strip():
            return "empty_text"
    return ""


def value_at(record: Any, path: str) -> Any:
    """Return what stands at a dotted path, None where there is nothing; `*` in it is each of a list."""
    if isinstance(record, dict) and path in record:
        return record[path]
    first, _, rest = path.partition(".")
    if isinstance(record, list) and first == "*":
        return [value_at(each, rest) if rest else each for each in record]
    found = None
    if isinstance(record, dict):
        found = record.get(first)
    elif isinstance(record, list) and first.isdecimal():
        found = record[int(first)] if int(first) < len(record) else None
    return value_at(found, rest) if rest else found


def at(record: Any, field: Field | None) -> Any:
    """Return what a field holds, None where it holds nothing."""
    if not isinstance(field, Found):
        return None if field is None else value_at(record, str(field))
    text = value_at(record, field.field)
    found = re.search(field.pattern, text) if isinstance(text, str) else None
    return found[1] if found else None


def every(record: Any, field: Field) -> Any:
    """Return the list that a field holds; of a pattern all that it finds, as tuples where it has several groups."""
    if not isinstance(field, Found):
        return at(record, field)
    text = value_at(record, field.field)
    return re.findall(field.pattern, text) if isinstance(text, str) else None


def id_at(record: Any, field: Field | None, where: str) -> str:
    """Return the id that a record has, and where it has none the place."""
    return as_id(at(record, field), where)


def as_id(found: Any, where: str) -> str:
    """Return an id that may be a number as text, and in place of anything else `where` it was."""
    if isinstance(found, bool) or not isinstance(found, str | int) or is_broken(str(found)):
        return where
    return str(found) or where


def json_of(name: str, data: bytes) -> Any:
    """Return a file that is one JSON value.

    Raises:
        DataIntegrityError: it is not.

    """
    try:
        return json.loads(text_of(data))
    except (ValueError, RecursionError) as error:
        raise DataIntegrityError(f"{name}: not JSON ({error}). Copy the file again, or choose the reader of its layout.") from error


def json_records(name: str, data: bytes, place: str = "") -> Iterator[Placed]:
    """Yield the records of JSON lines, or of a list; `place` is the dotted path of a list, or of columns, in one JSON value.

    Raises:
        ConfigError: at `place` stands something else.
        DataIntegrityError: a file that should be one JSON value is none.

    """
    if place or text_of(data).lstrip()[:1] == "[":
        for number, record in enumerate(_listed(name, json_of(name, data), place), 1):
            yield Placed(f"{name}#{number}", record)
        return
    for number, line in lines_of(data):
        if line.strip():
            yield _parsed(f"{name}:{number}", line)


def _parsed(where: str, line: str) -> Placed:
    if is_broken(line):
        return Placed(where, None, "bad_encoding")
    try:
        return Placed(where, json.loads(line))
    except (ValueError, RecursionError):
        return Placed(where, None, "not_json")


def _listed(name: str, value: Any, place: str) -> Iterable[Any]:
    found = value_at(value, place) if place else value
    if isinstance(found, list):
        return found
    columns = list(found.values()) if isinstance(found, dict) else []
    if columns and all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
        return [dict(zip(found, cells, strict=True)) for cells in zip(*columns, strict=True)]
    raise ConfigError(f"reader.at: {place!r} of {name} is neither a list of records nor columns of equal length. Name the path to one.")
