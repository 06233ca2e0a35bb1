import os
import subprocess

import numpy as np
import pytest

from ptm_dist.corpus.shard import Shards, ShardWriter, merge, write_dataset
from ptm_dist.corpus.stored import read_documents, read_tokenized, write_documents, write_tokenized
from ptm_dist.data.dataset import MANIFEST, Dataset, RowReader
from ptm_dist.data.document import WORD, Document, TokenizedDocument, tokens
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import DataIntegrityError, StorageError
from ptm_dist.store import read_json, write_json

VOCABULARY = Vocabulary(size=1000, begin=0, pad=1, end=2, unknown=3, mask=999)


def examples(count, seed=0):
    draws = np.random.default_rng(seed)
    for number in range(count):
        yield {"tokens": draws.integers(4, 999, draws.integers(1, 40)).astype("<u2"), "label": np.array(number % 3, dtype="<u1")}


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_rows_come_back_and_the_manifest_counts(tmp_path):
    write_dataset(examples(150), tmp_path, VOCABULARY, {"task": "mlm"})
    dataset, rows = Dataset.open(tmp_path), list(examples(150))
    dataset.verify()
    assert [chunk.rows for chunk in dataset.chunks] == [64, 64, 22]
    assert dataset.lengths.tolist() == [len(row["tokens"]) for row in rows]
    assert dataset.token_counts.tolist() == np.bincount(np.concatenate([row["tokens"] for row in rows]), minlength=1000).tolist()
    assert sum(chunk.tokens for chunk in dataset.chunks) == dataset.tokens
    assert dataset.about == {"task": "mlm"}
    reader = RowReader(dataset, cached_chunks=1)
    for number, row in enumerate(rows):
        found = reader.read(number // 64, number % 64)
        assert found["tokens"].tolist() == row["tokens"].tolist()
        assert found["label"] == row["label"]


def test_equal_examples_give_equal_bytes(tmp_path):
    for name in ("a", "b"):
        write_dataset(examples(100), tmp_path / name, VOCABULARY, {})
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")


def test_the_stock_library_reads_the_shards(tmp_path):
    import webdataset

    write_dataset(examples(150), tmp_path, VOCABULARY, {})
    urls = [str(path) for path in sorted(tmp_path.glob("*.tar"))]
    chunks = list(webdataset.WebDataset(urls, shardshuffle=False).decode())
    assert [chunk["__key__"] for chunk in chunks] == ["00000000", "00000001", "00000002"]
    rows = list(examples(150))
    assert np.concatenate([chunk["tokens.npy"] for chunk in chunks]).tolist() == np.concatenate([row["tokens"] for row in rows]).tolist()
    assert np.concatenate([chunk["lengths.npy"] for chunk in chunks]).tolist() == [len(row["tokens"]) for row in rows]


def test_parts_written_apart_become_one_data_set(tmp_path):
    written = []
    for number in range(3):
        shards = ShardWriter(tmp_path, VOCABULARY, f"part-{number}", rows_per_chunk=8, shard_bytes=20_000).write(examples(60, number))
        written.append(Shards.of(shards.entries(), shards.lengths, shards.token_counts))
    merge(tmp_path, written, {})
    dataset = Dataset.open(tmp_path)
    dataset.verify()
    assert dataset.rows == 180
    assert len(dataset.shards) > 3
    expected = [row["tokens"].tolist() for number in range(3) for row in examples(60, number)]
    reader = RowReader(dataset, cached_chunks=2)
    assert [reader.read(c, r)["tokens"].tolist() for c, entry in enumerate(dataset.chunks) for r in range(entry.rows)] == expected


def test_rows_of_sources_are_told_apart(tmp_path):
    counts = {"a": [60, 5], "none": [0], "z": [70]}
    parts = [
        ShardWriter(tmp_path, VOCABULARY, f"{name}-{number}").write(examples(count, number))
        for name, found in counts.items()
        for number, count in enumerate(found)
    ]
    files = merge(tmp_path, parts, {"split": "validation"}, ["a", "a", "none", "z"])
    assert {path.name for path in tmp_path.iterdir()} == {*files, *(shard.name for part in parts for shard in part.shards)}
    dataset = Dataset.open(tmp_path)
    assert {name: part.rows for name, part in dataset.sources.items()} == {"a": range(65), "z": range(65, 135)}
    for name, found in counts.items():
        rows = [row["tokens"] for number, count in enumerate(found) for row in examples(count, number)]
        if rows:
            expected = np.bincount(np.concatenate(rows), minlength=1000)
            assert dataset.sources[name].token_counts.tolist() == expected.tolist()
    manifest = read_json(tmp_path / MANIFEST)
    manifest["about"]["sources"][1]["rows"] += 1
    write_json(tmp_path / MANIFEST, manifest)
    with pytest.raises(DataIntegrityError, match=r"manifest\.json: its sources hold another number of rows than lengths\.npy lists"):
        Dataset.open(tmp_path)


def test_rows_of_one_source_are_one_part_without_a_name(tmp_path):
    write_dataset(examples(20), tmp_path, VOCABULARY, {})
    dataset = Dataset.open(tmp_path)
    assert list(dataset.sources) == [""]
    assert dataset.sources[""].rows == range(20)
    assert dataset.sources[""].token_counts.tolist() == dataset.token_counts.tolist()


def test_no_example_gives_no_shard(tmp_path):
    write_dataset(iter(()), tmp_path, VOCABULARY, {})
    assert Dataset.open(tmp_path).rows == 0


def test_a_full_disk_leaves_no_half_shard(tmp_path):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(tmp_path)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here (not root?)")
    try:
        with pytest.raises(StorageError, match="the disk is full"):
            ShardWriter(tmp_path, VOCABULARY, shard_bytes=20_000).write(examples(5000))
        assert all(name.endswith(".tar") for name in os.listdir(tmp_path))
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_documents_come_back_and_damage_is_seen(tmp_path):
    documents = [Document("a", "Text\nwith é", {"language": "en"}), Document("b", "x")]
    path = tmp_path / "d.jsonl.zst"
    write_documents(path, documents)
    assert list(read_documents(path)) == documents
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DataIntegrityError, match="the file is damaged"):
        list(read_documents(path))


@pytest.mark.parametrize("counts", [[], [[]], [[0]], [[3, 0, 2], [], [4]]])
def test_tokenized_documents_come_back(tmp_path, counts):
    documents = [TokenizedDocument(str(n), [tokens(np.arange(c)) for c in lengths], [0] * len(lengths)) for n, lengths in enumerate(counts)]
    files = write_tokenized(tmp_path / "p.train", documents, 1000)
    assert sorted(files) == sorted(os.listdir(tmp_path))
    found = list(read_tokenized(tmp_path / "p.train"))
    assert plain(found) == plain(documents)


def plain(documents):
    return [(document.id, [sentence.tolist() for sentence in document.sentences], list(document.labels)) for document in documents]


def test_marks_letters_and_labels_come_back(tmp_path):
    spelled = tokens([5, 7], [0, 9], WORD)
    spelled["letters"] = ["naïve".encode(), b"x"]
    documents = [TokenizedDocument("a", [spelled, spelled[:1]], [0, 3]), TokenizedDocument("b", [], [])]
    files = write_tokenized(tmp_path / "p.train", documents, 1000)
    assert sorted(files) == sorted(os.listdir(tmp_path))
    assert {"p.train.marks.npy", "p.train.letters.npy", "p.train.labels.npy"} < set(files)
    assert plain(read_tokenized(tmp_path / "p.train")) == plain(documents)
