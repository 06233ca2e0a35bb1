"""How often units of Chinese agree with people: python -m tests.bench.chinese_units [STEP], every STEP-th text (all without).

Words and names against the People's Daily (its persons are two words, surname and given name: here one); names against CLUENER, the texts
from number 3,000 on, because the rules that put names together were chosen by the ones before. Prints tables in Markdown.
"""

from __future__ import annotations

import sys
import time
from collections import Counter, defaultdict
from itertools import islice

from ptm_dist.corpus.chinese import ChineseUnits, segmenter
from tests.real_text import lines, records

PEOPLES_DAILY = "zh/peoples_daily.tagged.txt.gz"
CLUENER = "labelled/cluener_9000.jsonl.gz"
TYPES = {"nr": "persons", "ns": "places", "nt": "organisations", "nz": "other names"}
KINDS = ("name", "address", "organization", "company", "government", "scene")


def daily(step):
    """Yield (text, [(start, end, tag)]) of paragraphs, adjacent nr put together."""
    for line in islice(lines(PEOPLES_DAILY), 0, None, step):
        text, words = "", []
        for word, _, tag in (item.rpartition("/") for item in line.split()):
            start = len(text)
            text += word
            if tag == "nr" and words and words[-1][1:] == (start, "nr"):
                start = words.pop()[0]
            words.append((start, len(text), tag))
        if text:
            yield text, words


def is_chinese(word):
    """Count words of Chinese characters only: punctuation and digits are easy."""
    return all("\u4e00" <= letter <= "\u9fff" or letter == "〇" for letter in word)


def scores(found, gold):
    """Return precision, recall and F1 of two sets."""
    right = len(found & gold)
    return right / len(found), right / len(gold), 2 * right / (len(found) + len(gold))


def agreement(step=1):
    """Return {name: (precision, recall, F1, how many in the People's Daily)} of words and of names by type."""
    units = segmenter(())
    found, gold = defaultdict(set), defaultdict(set)
    for number, (text, words) in enumerate(daily(step)):
        gold["words"] |= {(number, start, end) for start, end, _ in words if is_chinese(text[start:end])}
        found["words"] |= {(number, start, end) for start, end in units.words(text) if is_chinese(text[start:end])}
        for start, end, tag in words:
            gold[TYPES.get(tag, "")].add((number, start, end))
        for start, end, kind in units.names(text):
            found[TYPES[kind]].add((number, start, end))
    return {name: (*scores(found[name], gold[name]), len(gold[name])) for name in ("words", *TYPES.values())}


def exact(step=1, first=3000):
    """Return {kind: (share of CLUENER's spans that are one word, share that are one unit at the level of entities, how many)}."""
    units, counts = segmenter(()), Counter()
    for record in islice(records(CLUENER), first, None, step):
        text = record["text"]
        words, names = units.words(text), units.names(text)
        inside = {place for start, end, _ in names for place in range(start, end)}
        one = {(start, end) for start, end, _ in names} | {word for word in words if word[0] not in inside}
        for kind in KINDS:
            for span in ((start, last + 1) for places in record["label"].get(kind, {}).values() for start, last in places):
                counts[kind, "all"] += 1
                counts[kind, "word"] += span in words
                counts[kind, "entity"] += span in one
    return {
        kind: (counts[kind, "word"] / counts[kind, "all"], counts[kind, "entity"] / counts[kind, "all"], counts[kind, "all"])
        for kind in KINDS
    }


def put_together(step=1, first=3000):
    """Return how many names of several words there are in CLUENER, and the shares that are one of its spans, and that lie inside of one."""
    units, counts = segmenter(()), Counter()
    for record in islice(records(CLUENER), first, None, step):
        words = set(units.words(record["text"]))
        spans = [(start, last + 1) for found in record["label"].values() for places in found.values() for start, last in places]
        for start, end, _ in units.names(record["text"]):
            if (start, end) not in words:
                counts["all"] += 1
                counts["exact"] += (start, end) in spans
                counts["inside"] += any(begin <= start and end <= stop for begin, stop in spans)
    return counts["all"], counts["exact"] / counts["all"], counts["inside"] / counts["all"]


def speed(entities):
    """Return millions of UTF-8 bytes a second of processor time, after the first text."""
    texts = [text for text, _ in daily(10)]
    units = ChineseUnits(entities=entities)
    units.marks(["我"])
    began = time.process_time()
    units.marks(texts)
    return sum(len(text.encode()) for text in texts) / 1e6 / (time.process_time() - began)


if __name__ == "__main__":
    step = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    print("| People's Daily | precision | recall | F1 | how many |\n| --- | ---: | ---: | ---: | ---: |")
    for name, (precision, recall, f1, count) in agreement(step).items():
        print(f"| {name} | {precision:.3f} | {recall:.3f} | {f1:.3f} | {count:,} |")
    print("\n| CLUENER | is one word | is one unit at the level of entities | how many |\n| --- | ---: | ---: | ---: |")
    for kind, (word, entity, count) in exact(step).items():
        print(f"| {kind} | {word:.3f} | {entity:.3f} | {count:,} |")
    count, right, within = put_together(step)
    print(f"\nOf {count:,} names of several words {right:.3f} are a span of CLUENER, {within:.3f} are or lie inside of one.")
    print(f"\nMB/s a process: {speed(False):.2f} without entities, {speed(True):.2f} with")
