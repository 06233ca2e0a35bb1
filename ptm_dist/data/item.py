"""What a labelled data set holds: a text or a pair with a class or a value, tagged words, a question about a text, a choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias


@dataclass(frozen=True, slots=True)
class TextItem:
    """A text, or a pair of texts, with the name of its class, or a value; None where it is not known.

    Items of one `group` (a film, a speaker) stay together when splits are made.
    """

    id: str
    first: str
    second: str | None = None
    label: str | float | None = None
    group: str = ""


@dataclass(frozen=True, slots=True)
class TaggedItem:
    """Words with a tag each (O, B-PER, I-PER); `joined` is what stands between them: nothing in Chinese."""

    id: str
    words: tuple[str, ...]
    tags: tuple[str, ...] | None = None
    joined: str = " "


NOT_THERE: Final = -1


@dataclass(frozen=True, slots=True)
class Answer:
    """A stretch of a context that begins at character `start`, or NOT_THERE: people gave this text, and the context does not have it."""

    text: str
    start: int

    @property
    def end(self) -> int:
        """The character after the last."""
        return self.start + len(self.text)


@dataclass(frozen=True, slots=True)
class QuestionItem:
    """A question about a context. Without answers it is either `impossible`, or nobody knows (`labelled` is false)."""

    id: str
    question: str
    context: str
    answers: tuple[Answer, ...] = ()
    impossible: bool = False

    @property
    def labelled(self) -> bool:
        """Is it known what the answer is, or that there is none?"""
        return bool(self.answers) or self.impossible


@dataclass(frozen=True, slots=True)
class ChoiceItem:
    """A question about a context with several answers, of which `label` counts to the right one, from 0; None: nobody knows."""

    id: str
    context: str
    question: str
    choices: tuple[str, ...]
    label: int | None = None


Item: TypeAlias = TextItem | TaggedItem | QuestionItem | ChoiceItem


@dataclass(frozen=True, slots=True)
class Bad:
    """An item that cannot be used: where it stands (file and line, or id), and a word for why."""

    where: str
    why: str
