import gzip
import json

import pytest
import zstandard

from ptm_dist.corpus.read import InstalledDocs, TextSource, in_parts
from ptm_dist.data.document import Document
from ptm_dist.errors import ConfigError, DataIntegrityError, DataUnavailableError
from ptm_dist.store import canonical_json


def read_all(source):
    return [document for part in source.parts() for document in source.read(part)]


def source_of(*paths):
    return TextSource(paths=tuple(str(path) for path in paths))


def lines(*records):
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def test_every_form_of_file_is_read(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.txt").write_text("first")
    (tmp_path / "deep" / "b.txt.gz").write_bytes(gzip.compress(b"second"))
    (tmp_path / "c.txt.zst").write_bytes(zstandard.compress(b"third"))
    (tmp_path / "d.jsonl").write_bytes(lines({"text": "one"}) + b"\n" + lines({"text": "two", "id": "mine"}, {"text": "3", "id": 7}))
    (tmp_path / "e.jsonl.gz").write_bytes(gzip.compress(lines({"text": "four"})))
    (tmp_path / "f.jsonl.zst").write_bytes(zstandard.compress(lines({"text": "five"})) + zstandard.compress(lines({"text": "six"})))
    (tmp_path / "ignored.bin").write_bytes(b"\xff")
    assert [(document.id, document.text) for document in read_all(source_of(tmp_path))] == [
        ("a.txt", "first"),
        ("c.txt.zst", "third"),
        ("d.jsonl:1", "one"),
        ("mine", "two"),
        ("7", "3"),
        ("deep/b.txt.gz", "second"),
        ("e.jsonl.gz:1", "four"),
        ("f.jsonl.zst:1", "five"),
        ("f.jsonl.zst:2", "six"),
    ]


def test_globs_files_and_memory_urls(tmp_path):
    import fsspec

    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.jsonl").write_bytes(lines({"text": "b"}))
    assert [document.id for document in read_all(source_of(tmp_path / "*.txt"))] == ["a.txt"]
    assert [document.id for document in read_all(source_of(tmp_path / "b.jsonl"))] == ["b.jsonl:1"]
    with fsspec.open("memory://corpus/m.txt", "wb") as file:
        file.write(b"remote")
    assert read_all(source_of("memory://corpus")) == [Document("m.txt", "remote")]


def test_equal_names_are_told_apart_and_no_file_is_read_twice(tmp_path):
    for folder in ("x", "y", "z"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text(folder)
    found = read_all(source_of(tmp_path / "x", tmp_path / "y", tmp_path / "z", tmp_path / "x" / "a.txt"))
    assert [(document.id, document.text) for document in found] == [("a.txt", "x"), ("a.txt#2", "y"), ("a.txt#3", "z")]


def test_identity_follows_content_not_the_place(tmp_path):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text("same")
    here, there = (source_of(tmp_path / folder).identity() for folder in ("x", "y"))
    assert canonical_json(here) == canonical_json(there)
    (tmp_path / "x" / "a.txt").write_text("emas")
    assert source_of(tmp_path / "x").identity() != there


def test_parts_have_about_the_same_size():
    assert in_parts([]) == []
    assert in_parts([(str(n), 3 << 20) for n in range(5)]) == [["0", "1"], ["2", "3"], ["4"]]


def test_not_utf8_says_where_and_what_to_do(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    with pytest.raises(DataUnavailableError, match=r"a\.txt: not UTF-8 at byte 3 \(0xe9\).*iconv"):
        read_all(source_of(tmp_path))
    (tmp_path / "a.txt").unlink()
    first = lines({"text": "good"})
    (tmp_path / "b.jsonl").write_bytes(first + b'{"text": "\xff"}\n')
    with pytest.raises(DataUnavailableError, match=rf"b\.jsonl: not UTF-8 at byte {len(first) + 10} "):
        read_all(source_of(tmp_path))


def test_utf16_is_not_utf8(tmp_path):
    (tmp_path / "a.txt").write_text("text", encoding="utf-16")
    with pytest.raises(DataUnavailableError, match="at byte 0"):
        read_all(source_of(tmp_path))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "cut', "line 2: not JSON"),
        (b'{"body": "x"}', 'line 2: no field "text"'),
        (b'{"text": 5}', 'line 2: no field "text"'),
        (b'["text"]', "line 2: not an object"),
        (b'{"text": "x", "title": 5}', 'line 2: the field "title"'),
        (b'{"text": "x", "pair": ["y"]}', 'line 2: the field "pair"'),
        (b'{"text": "x", "pair": "y"}', 'line 2: the "label" of the pair is None'),
        (b'{"text": "x", "pair": "y", "label": 1000}', 'line 2: the "label" of the pair is 1000'),
        (b'{"turns": "x"}', 'line 2: "turns" is no list'),
        (b'{"turns": ["x", 5]}', "line 2: turn 2 is 5"),
        (b'{"text": "x", "id": [1]}', 'line 2: the field "id"'),
    ],
)
def test_bad_lines_are_named(tmp_path, line, message):
    (tmp_path / "a.jsonl").write_bytes(lines({"text": "good"}) + line + b"\n")
    with pytest.raises(DataIntegrityError, match=message):
        read_all(source_of(tmp_path))


def test_titles_pairs_and_turns_are_read(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(
        lines(
            {"text": "x", "title": "T", "other": 1},
            {"text": "x", "pair": "y", "label": 2},
            {"turns": ["Hi", " ", "you  there?", "yes"]},
            {"turns": [["B", "Hi"], ["A", "you\nthere?"], ["A", "yes"], ["B", "no"]]},
        )
    )
    assert [(document.text, document.meta) for document in read_all(source_of(tmp_path))] == [
        ("x", {"title": "T"}),
        ("x", {"pair": "y", "label": "2"}),
        ("Hi\nyou there?\nyes", {"speakers": "0 0 1"}),
        ("Hi\nyou there?\nyes\nno", {"speakers": "0 1 1 0"}),
    ]


def test_nasty_but_legal_texts_pass(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(
        b'\xef\xbb\xbf{"text": "mark"}\n{"text": "\\u0000 \\ud800"}\n{"text": ""}\n' + lines({"text": "x" * 10_000_000})
    )
    assert [len(document.text) for document in read_all(source_of(tmp_path))] == [4, 3, 0, 10_000_000]
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "mark.txt").write_bytes(b"\xef\xbb\xbftext")
    assert [document.text for document in read_all(source_of(tmp_path / "*.txt"))] == ["", "text"]


@pytest.mark.parametrize("pattern", ["nothing.txt", "no/*.txt", "."])
def test_what_matches_nothing_is_named(tmp_path, pattern):
    with pytest.raises(DataUnavailableError, match="matches no"):
        source_of(tmp_path / pattern).parts()


def test_commands_are_no_addresses():
    with pytest.raises(ConfigError, match="pipe"):
        source_of("pipe:cat x").parts()


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_a_cut_compressed_file_is_damage(tmp_path, pack):
    import random

    text = " ".join(str(random.Random(0).random()) for _ in range(3000)).encode()
    ending = "gz" if pack is gzip.compress else "zst"
    (tmp_path / f"a.txt.{ending}").write_bytes(pack(text)[:-20])
    with pytest.raises(DataIntegrityError, match="damaged or cut short"):
        read_all(source_of(tmp_path))
    (tmp_path / f"a.txt.{ending}").write_bytes(b"not compressed")
    with pytest.raises(DataIntegrityError, match="damaged or cut short"):
        read_all(source_of(tmp_path))


def test_installed_docs_are_long_english_with_ids_of_their_own():
    source = InstalledDocs(packages=("python", "hypothesis"))
    parts = source.parts()
    assert parts[0] == ["topics"]
    assert parts == source.parts()
    some = [document for part in (parts[0], parts[-1]) for document in source.read(part)]
    assert len(some) > 150
    assert all(len(document.text) > 200 for document in some[100:])
    assert len({document.id for document in some}) == len(some)
    assert [name for name, _ in source.identity()["packages"]] == ["python", "python", "hypothesis"]


def test_a_package_that_is_not_there_is_named():
    with pytest.raises(DataUnavailableError, match="'no_such_package' is not installed"):
        InstalledDocs(packages=("no_such_package",)).identity()
    with pytest.raises(DataUnavailableError, match="'no_such_package' is not an installed package"):
        InstalledDocs(packages=("no_such_package",)).parts()


def test_a_source_file_that_does_not_parse_is_counted(tmp_path, monkeypatch):
    from ptm_dist.corpus import docstrings

    (tmp_path / "bad.py").write_text('"""doc"""\ndef (:')
    (tmp_path / "good.py").write_text(f'if True:\n    class A:\n        """{"Words. " * 40}"""\n')
    monkeypatch.setattr(docstrings, "_root", lambda package: tmp_path)
    assert list(docstrings.docstrings_of("mine/bad.py")) == ["not_python"]
    assert [document.id for document in docstrings.docstrings_of("mine/good.py")] == ["mine/good.py:2"]


def test_blank_lines_may_part_documents(tmp_path):
    (tmp_path / "book.txt").write_text("\n\nOne.\nTwo.\n  \nThree.\n\n\nFour.")
    found = list(TextSource(paths=(str(tmp_path / "book.txt"),), documents="blank_lines").read(["book.txt\0" + str(tmp_path / "book.txt")]))
    assert [(document.id, document.text) for document in found] == [
        ("book.txt:3", "One.\nTwo.\n"),
        ("book.txt:6", "Three.\n"),
        ("book.txt:9", "Four."),
    ]
