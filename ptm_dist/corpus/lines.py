"""The bytes of a text file or of JSON lines to documents, strictly: what is not UTF-8 or not JSON is an error that says where."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from ptm_dist.data.document import Document
from ptm_dist.errors import DataIntegrityError, DataUnavailableError
from ptm_dist.store import open_url

MOST_LABELS: Final = 1000
"""More classes of pairs than any published set has."""


def text_document(name: str, url: str) -> Document:
    """Return the one document of a text file.

    Raises:
        DataUnavailableError: the file is gone or is not UTF-8.

    """
    with open_url(url) as file:
        return Document(name, _decoded(file.read(), url, 0).removeprefix("\ufeff"))


def blank_line_documents(name: str, url: str) -> Iterator[Document]:
    """Yield what lies between blank lines, as BERT's and fairseq's tools read text; ids are the file's name and the line number.

    Raises:
        DataUnavailableError: the file is gone or is not UTF-8.

    """
    offset, lines = 0, list[str]()
    number = 0
    with open_url(url) as file:
        for number, line in enumerate(file, 1):
            text = _decoded(line, url, offset).removeprefix("\ufeff")
            offset += len(line)
            if text.strip():
                lines.append(text)
            elif lines:
                yield Document(f"{name}:{number - len(lines)}", "".join(lines))
                lines = []
    if lines:
        yield Document(f"{name}:{number - len(lines) + 1}", "".join(lines))


def json_documents(name: str, url: str) -> Iterator[Document]:
    """Yield the document of each line {"text": ..., "id": ...}; without an id it is the file's name and the line number.

    A line may also have a "title"; a "pair", the other text of a labelled pair, with its "label"; or, in place of a text, "turns" of a
    dialogue, each a text or [speaker, text].

    Raises:
        DataUnavailableError: the file is gone or is not UTF-8.
        DataIntegrityError: a line is not a JSON object with a text.

    """
    offset = 0
    with open_url(url) as file:
        for number, line in enumerate(file, 1):
            text = _decoded(line, url, offset).removeprefix("\ufeff")
            offset += len(line)
            if text.strip():
                yield _document(text, f"{name}:{number}", f"{url}, line {number}")


def _document(line: str, default_id: str, where: str) -> Document:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataIntegrityError(f'{where}: not JSON ({error}). Each line must be an object such as {{"text": "..."}}.') from error
    if not isinstance(record, dict):
        raise DataIntegrityError(f'{where}: not an object. Each line must be one, such as {{"text": "..."}}.')
    given: Any = record.get("id", default_id)
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise DataIntegrityError(f'{where}: the field "id" is {given!r}; make it a string or a whole number, or leave it out.')
    if "turns" in record:
        return dialogue_document(str(given), record["turns"], where)
    if not isinstance(record.get("text"), str):
        raise DataIntegrityError(f'{where}: no field "text" that holds a string. Each line must be an object such as {{"text": "..."}}.')
    return Document(str(given), record["text"], _meta(record, where))


def _meta(record: dict[str, Any], where: str) -> dict[str, str]:
    """Return the further fields that a format may read: title; pair and label of labelled pairs."""
    meta = {}
    for name in ("title", "pair"):
        value = record.get(name)
        if value is not None and not isinstance(value, str):
            raise DataIntegrityError(f'{where}: the field "{name}" is {value!r}; make it a string, or leave it out.')
        meta |= {name: value} if value else {}
    if "pair" in meta:
        label = record.get("label")
        if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < MOST_LABELS:
            raise DataIntegrityError(f'{where}: the "label" of the pair is {label!r}; make it a whole number from 0 to {MOST_LABELS - 1}.')
        meta["label"] = str(label)
    return meta


def dialogue_document(name: str, turns: Any, where: str) -> Document:
    """Return a document with a turn a line, and who speaks by number in the order of appearance.

    Turns are texts, of two speakers in turn, or [speaker, text].

    Raises:
        DataIntegrityError: they are not; `where` says which dialogue.

    """
    if not isinstance(turns, list):
        raise DataIntegrityError(f'{where}: "turns" is no list. Make it texts, or pairs of a speaker and a text.')
    lines, speakers = [], []
    for number, turn in enumerate(turns):
        speaker, text = turn if isinstance(turn, list) and len(turn) == 2 else (number % 2, turn)
        if not isinstance(text, str) or not isinstance(speaker, str | int):
            raise DataIntegrityError(f"{where}: turn {number + 1} is {turn!r}. Make it a text, or a speaker and a text.")
        if text.strip():
            lines.append(" ".join(text.split()))
            speakers.append(speaker)
    order = list(dict.fromkeys(speakers))
    return Document(name, "\n".join(lines), {"speakers": " ".join(str(order.index(speaker)) for speaker in speakers)})


def _decoded(data: bytes, url: str, offset: int) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataUnavailableError(
            f"{url}: not UTF-8 at byte {offset + error.start:,} (0x{data[error.start]:02x}). "
            "Convert it, for instance: iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW"
        ) from error
