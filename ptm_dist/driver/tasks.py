"""The work of each stage of preparation: pure functions of files, run by Ray on any node that sees them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from ptm_dist.corpus.clean import CleanSettings, clean
from ptm_dist.corpus.cuts import pieces, token_marks
from ptm_dist.corpus.dedup import DedupSettings, first_of_each, text_key
from ptm_dist.corpus.read import Source
from ptm_dist.corpus.sentences import sentences
from ptm_dist.corpus.shard import ShardWriter
from ptm_dist.corpus.split import SPLITS, SplitSettings, split_codes, split_key
from ptm_dist.corpus.stored import (
    read_documents,
    read_marks,
    read_tokenized,
    write_array,
    write_documents,
    write_marks,
    write_tokenized,
)
from ptm_dist.corpus.tokenizer import FolderTokenizer, load_tokenizer
from ptm_dist.data.document import LETTERS, TOKEN, WORD, Cut, Document, TokenizedDocument, tokens
from ptm_dist.data.example import Example
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.driver.stages import Output
from ptm_dist.store import write_atomic

PART_CHARACTERS: Final = 8_000_000
"""Text of one file of documents; a large input becomes many of them, so that later stages spread over all cores."""
PIECES_AT_ONCE: Final = 20_000
DUPLICATE: Final = 255
"""What stands in a deal for a document that is dropped; other values are places in SPLITS."""


class Format(Protocol):
    """Documents to examples."""

    def examples(self, documents: Iterable[TokenizedDocument], vocabulary: Vocabulary, skipped: Counter[str]) -> Iterator[Example]:
        """Yield the examples of some documents, and count by reason those that give none."""
        ...


class Units(Protocol):
    """What belongs together in a text."""

    def marks(self, texts: list[str]) -> list[np.ndarray]:
        """Return the marks of each text's characters."""
        ...


class TrainableTokenizer(Protocol):
    """A tokenizer that is learned from text."""

    def train(self, texts: Iterator[str]) -> dict[str, bytes]:
        """Return the files of a tokenizer folder."""
        ...


@dataclass(frozen=True)
class DealtPart:
    """A file of documents and the deal that says which split each of them is in."""

    documents: Path
    deal: Path

    def of(self, split: str) -> Iterator[Document]:
        """Yield the documents of one split."""
        code = SPLITS.index(split)
        for document, dealt in zip(read_documents(self.documents), np.load(self.deal), strict=True):
            if dealt == code:
                yield document


@dataclass(frozen=True)
class Reading:
    """How a source is read: `name` decides the split of its documents."""

    name: str
    source: Source
    clean: CleanSettings


def read_part(directory: Path, number: int, reading: Reading, part: list[str]) -> Output:
    """Read and clean a work unit; write what is kept as PART.jsonl.zst, and as PART.keys.npy uint64 [documents, 3].

    A row of keys is the hash of the text in two words, and the hash of the id that decides the split.
    """
    counts = Counter(read=0, kept=0)
    dropped: Counter[str] = Counter()
    parts: list[str] = []
    for documents in _batches(_cleaned(reading, part, counts, dropped)):
        name = f"{number:05d}-{len(parts):05d}"
        write_documents(directory / f"{name}.jsonl.zst", documents)
        keys = [(*text_key(_told(document)), split_key(reading.name, document.id)) for document in documents]
        write_array(directory / f"{name}.keys.npy", np.array(keys, dtype="<u8"))
        parts.append(name)
    files = [f"{name}.{ending}" for name in parts for ending in ("jsonl.zst", "keys.npy")]
    return Output(files, {**counts, "dropped": dict(dropped), "parts": parts})


def _told(document: Document) -> str:
    """What makes a document the same as another: its text, and of a labelled pair both."""
    return "\n".join([document.text, document.meta["pair"]]) if "pair" in document.meta else document.text


def _cleaned(reading: Reading, part: list[str], counts: Counter[str], dropped: Counter[str]) -> Iterator[Document]:
    for found in reading.source.read(part):
        counts["read"] += 1
        kept = found if isinstance(found, str) else clean(found, reading.clean)
        if isinstance(kept, str):
            dropped[kept] += 1
        else:
            counts["kept"] += 1
            yield kept


def _batches(documents: Iterator[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += len(document.text)
        if characters >= PART_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def deal(directory: Path, sources: dict[str, tuple[Path, list[str]]], dedup: DedupSettings, split: SplitSettings) -> Output:
    """Decide once, over all sources in the order given, what becomes of each document: SOURCE/PART.npy, uint8 [documents].

    Of equal documents the first is kept, so no source changes what became of those before it.
    """
    order = [(source, part) for source in sources for part in sources[source][1]]
    keys = [np.load(sources[source][0] / f"{part}.keys.npy") for source, part in order]
    joined = np.concatenate([np.empty((0, 3), dtype="<u8"), *keys])
    codes = split_codes(joined[:, 2], split)
    if dedup.exact:
        codes[~first_of_each(joined[:, :2])] = DUPLICATE
    counts = {source: Counter[str]() for source in sources}
    names = {DUPLICATE: "duplicates"} | dict(enumerate(SPLITS))
    start = 0
    for (source, part), own in zip(order, keys, strict=True):
        dealt = codes[start : start + len(own)]
        start += len(own)
        write_array(directory / source / f"{part}.npy", dealt)
        counts[source].update(names[code] for code in dealt.tolist())
    return Output([f"{source}/{part}.npy" for source, part in order], {source: dict(found) for source, found in counts.items()})


def train_tokenizer(directory: Path, tokenizer: TrainableTokenizer, parts: Sequence[DealtPart]) -> Output:
    """Train on the train split of all parts and write the folder `tokenizer`."""
    files = tokenizer.train(" ".join(sentences(document.text)) for part in parts for document in part.of("train"))
    for name, data in files.items():
        write_atomic(directory / "tokenizer" / name, data)
    return Output([f"tokenizer/{name}" for name in files], {})


def mark_part(directory: Path, name: str, part: DealtPart, cut: Cut, units: Units) -> Output:
    """Mark the characters of every piece of a part; one array a split, PART.SPLIT.npy."""
    files = []
    for split in SPLITS:
        texts = [piece.text for document in part.of(split) for piece in pieces(document, cut)]
        write_marks(directory / f"{name}.{split}.npy", units.marks(texts))
        files.append(f"{name}.{split}.npy")
    return Output(files, {})


def tokenize_part(directory: Path, name: str, part: DealtPart, cut: Cut, folders: tuple[Path, Path | None]) -> Output:
    """Cut the documents of a part into pieces and these into tokens; one set of arrays a split, PART.SPLIT.*.

    `folders` are those of the tokenizer, and of the marks if there are any.
    """
    tokenizer = load_tokenizer(folders[0])
    files: list[str] = []
    results = {}
    for split in SPLITS:
        documents = [(document.id, pieces(document, cut)) for document in part.of(split)]
        if not documents:
            continue
        texts = [piece.text for _, found in documents for piece in found]
        marks = read_marks(folders[1] / f"{name}.{split}.npy", [len(text) for text in texts]) if folders[1] else None
        encoded = _encoded(texts, tokenizer, marks)
        tokenized = [
            TokenizedDocument(document_id, [next(encoded) for _ in found], [piece.label for piece in found])
            for document_id, found in documents
        ]
        files += write_tokenized(directory / f"{name}.{split}", tokenized, tokenizer.vocabulary.size)
        results[split] = {"documents": len(tokenized), "tokens": sum(len(s) for d in tokenized for s in d.sentences)}
    return Output(files, results)


def _encoded(texts: list[str], tokenizer: FolderTokenizer, marks: list[np.ndarray] | None) -> Iterator[np.ndarray]:
    """Yield the tokens of each text, many texts a call."""
    spelled = tokenizer.vocabulary.spelled
    for start in range(0, len(texts), PIECES_AT_ONCE):
        batch = texts[start : start + PIECES_AT_ONCE]
        if marks is None and not spelled:
            yield from map(tokens, tokenizer.encode(batch))
            continue
        for number, (text, (ids, offsets)) in enumerate(zip(batch, tokenizer.encode_with_offsets(batch), strict=True)):
            found = tokens(ids, token_marks(marks[start + number], offsets) if marks else 0, WORD if spelled else TOKEN)
            if spelled:
                found["letters"] = [text[first:last].encode()[:LETTERS] for first, last in offsets.tolist()]
            yield found


@dataclass(frozen=True)
class Layout:
    """What `write_examples` needs beside text: `marked` keeps the marks of tokens, for objectives that read them."""

    format: Format
    vocabulary: Vocabulary
    marked: bool


def write_examples(directory: Path, name: str, prefixes: Sequence[Path], layout: Layout) -> Output:
    """Write the examples of some tokenized parts as shards SPLIT/part-NUMBER-*.tar, where NAME is SPLIT-NUMBER."""
    split, _, number = name.partition("-")
    skipped: Counter[str] = Counter()
    documents = (document for prefix in prefixes for document in read_tokenized(prefix))
    examples = layout.format.examples(documents, layout.vocabulary, skipped)
    kept = examples if layout.marked else ({key: row[key] for key in row if key != "marks"} for row in examples)
    written = ShardWriter(directory / split, layout.vocabulary, f"part-{number}").write(kept)
    write_array(directory / "counts" / f"{name}.lengths.npy", written.lengths)
    write_array(directory / "counts" / f"{name}.tokens.npy", written.token_counts)
    files = [f"{split}/{shard.name}" for shard in written.shards]
    results = written.entries() | {"skipped": dict(sorted((+skipped).items()))}
    return Output([*files, f"counts/{name}.lengths.npy", f"counts/{name}.tokens.npy"], results)
