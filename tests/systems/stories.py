"""Stories that anybody may have: text with words, names, connectives, titles and paragraphs, and always the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from ptm_dist.rng import Draws

PARAGRAPHS: Final = 3
"""In each story; the Chinese dialogue task takes them for turns."""

ENGLISH: Final = {
    "who": ("Anna Brown", "the old baker", "Tom Harris", "a young sailor", "the Queen", "my neighbour", "Doctor Lee", "the school"),
    "did": ("mended", "painted", "sold", "forgot", "described", "carried home", "looked for", "paid for"),
    "what": ("the red boat", "a broken clock", "three loaves of bread", "the map of Wales", "an iron bridge", "the long letter"),
    "where": ("in London", "near the harbour", "behind the church", "at the market", "on the way to Paris", "under the oak"),
    "when": ("on Monday", "before sunrise", "after the storm", "in March", "late at night", "two years ago"),
    "joins": ("However", "Therefore", "For example", "Meanwhile", "In fact", "Afterwards", "In short", "In addition"),
}
CHINESE: Final = {
    "who": ("李明", "老师傅", "王芳", "年轻的船长", "张教授", "我的邻居", "市政府", "小学校长"),
    "did": ("修好了", "卖掉了", "忘记了", "描述了", "带走了", "寻找着", "买下了", "画出了"),
    "what": ("红色的小船", "一座旧钟", "三个大面包", "中国地图", "一座铁桥", "一封长信"),
    "where": ("在北京", "在港口附近", "在教堂后面", "在市场上", "在去上海的路上", "在大树下面"),
    "when": ("星期一", "日出之前", "暴风雨之后", "三月份", "深夜", "两年以前"),
    "joins": ("但是", "因此", "例如", "同时", "事实上", "后来", "总之", "此外"),
}
Words = dict[str, tuple[str, ...]]
Pick = Callable[[str], str]


def stories(language: str, count: int) -> list[dict[str, str]]:
    """Return `count` stories with id, title and text; `language` is en or zh."""
    words, write = (ENGLISH, _english) if language == "en" else (CHINESE, _chinese)
    return [_story(language, number, words, write) for number in range(count)]


def write_stories(path: Path, language: str, count: int) -> Path:
    """Write stories as JSON lines and return the path."""
    path.write_text("".join(f"{json.dumps(story, ensure_ascii=False)}\n" for story in stories(language, count)), encoding="utf8")
    return path


def _story(language: str, number: int, words: Words, write: Callable[[Pick, int], str]) -> dict[str, str]:
    numbers = iter(Draws(7, f"stories {language}", number).integers(400, 1 << 30).tolist())

    def pick(kind: str) -> str:
        return words[kind][next(numbers) % len(words[kind])]

    paragraphs = [_joined(language, (write(pick, place) for place in range(3 + next(numbers) % 2))) for _ in range(PARAGRAPHS)]
    title = pick("who") + ("的故事" if language == "zh" else ": a story")
    return {"id": f"{language}-{number:05d}", "title": title, "text": "\n".join(paragraphs)}


def _joined(language: str, sentences: Iterable[str]) -> str:
    return ("" if language == "zh" else " ").join(sentences)


def _english(pick: Pick, place: int) -> str:
    sentence = f"{pick('who')} {pick('did')} {pick('what')} {pick('where')} {pick('when')}."
    return f"{pick('joins')}, {sentence}" if place % 2 else sentence[0].upper() + sentence[1:]


def _chinese(pick: Pick, place: int) -> str:
    sentence = f"{pick('who')}{pick('when')}{pick('where')}{pick('did')}{pick('what')}。"
    return f"{pick('joins')}，{sentence}" if place % 2 else sentence
