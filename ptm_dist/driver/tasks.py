"""The work of each stage of preparation: pure functions of files, run by Ray on any node that sees them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from ptm_dist.corpus.clean import CleanSettings, clean
from ptm_dist.corpus.dedup import DedupSettings, first_of_each, text_key
from ptm_dist.corpus.read import Source
from ptm_dist.corpus.sentences import sentences
from ptm_dist.corpus.shard import ShardWriter
from ptm_dist.corpus.split import SPLITS, SplitSettings, split_codes, split_key
from ptm_dist.corpus.stored import read_documents, read_tokenized, write_array, write_documents, write_tokenized
from ptm_dist.corpus.tokenizer import load_tokenizer
from ptm_dist.data.document import Document, TokenizedDocument
from ptm_dist.data.example import Example
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.driver.stages import Output
from ptm_dist.store import write_atomic

PART_CHARACTERS: Final = 8_000_000
"""Text of one file of documents; a large input becomes many of them, so that later stages spread over all cores."""
SENTENCES_AT_ONCE: Final = 20_000
DUPLICATE: Final = 255
"""What stands in a deal for a document that is dropped; other values are places in SPLITS."""


class Format(Protocol):
    """Documents to examples."""

    def examples(self, documents: Iterable[TokenizedDocument], vocabulary: Vocabulary) -> Iterator[Example]:
        """Yield the examples of some documents."""
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
        keys = [(*text_key(document.text), split_key(reading.name, document.id)) for document in documents]
        write_array(directory / f"{name}.keys.npy", np.array(keys, dtype="<u8"))
        parts.append(name)
    files = [f"{name}.{ending}" for name in parts for ending in ("jsonl.zst", "keys.npy")]
    return Output(files, {**counts, "dropped": dict(dropped), "parts": parts})


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
    """Decide once, over all sources in canonical order, what becomes of each document: SOURCE/PART.npy, uint8 [documents]."""
    order = [(source, part) for source in sorted(sources) for part in sources[source][1]]
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


def tokenize_part(directory: Path, name: str, part: DealtPart, tokenizer_folder: Path) -> Output:
    """Cut the documents of a part into sentences and these into ids; one set of arrays a split, PART.SPLIT.*."""
    tokenizer = load_tokenizer(tokenizer_folder)
    files: list[str] = []
    results = {}
    for split in SPLITS:
        documents = _tokenized([(document.id, sentences(document.text)) for document in part.of(split)], tokenizer.encode)
        if documents:
            files += write_tokenized(directory / f"{name}.{split}", documents, tokenizer.vocabulary.size)
            results[split] = {"documents": len(documents), "tokens": sum(len(s) for d in documents for s in d.sentences)}
    return Output(files, results)


def _tokenized(documents: list[tuple[str, list[str]]], encode: Any) -> list[TokenizedDocument]:
    """Encode many sentences a call, and lay them back into their documents."""
    texts = [sentence for _, found in documents for sentence in found]
    batches = (encode(texts[start : start + SENTENCES_AT_ONCE]) for start in range(0, len(texts), SENTENCES_AT_ONCE))
    ids = chain.from_iterable(batches)
    return [TokenizedDocument(document_id, [next(ids) for _ in found]) for document_id, found in documents]


def write_examples(directory: Path, name: str, prefixes: Sequence[Path], layout: Format, vocabulary: Vocabulary) -> Output:
    """Write the examples of some tokenized parts as shards SPLIT/part-NUMBER-*.tar, where NAME is SPLIT-NUMBER."""
    split, _, number = name.partition("-")
    documents = (document for prefix in prefixes for document in read_tokenized(prefix))
    written = ShardWriter(directory / split, vocabulary, f"part-{number}").write(layout.examples(documents, vocabulary))
    write_array(directory / "counts" / f"{name}.lengths.npy", written.lengths)
    write_array(directory / "counts" / f"{name}.tokens.npy", written.token_counts)
    files = [f"{split}/{shard.name}" for shard in written.shards]
    return Output([*files, f"counts/{name}.lengths.npy", f"counts/{name}.tokens.npy"], written.entries())
