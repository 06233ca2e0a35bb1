"""Runs of which only a copy in an object store is to be seen."""

import fsspec
import pytest

from ptm_dist.cli import jobs as verbs
from ptm_dist.clusters.copied import seen_here
from ptm_dist.clusters.jobs import kept_lines
from ptm_dist.errors import ConfigError
from ptm_dist.kept import kept_path
from ptm_dist.run import RunFolder
from tests.tiny import tiny_recipe

RECIPE = tiny_recipe()


@pytest.fixture
def copied(tmp_path):
    """A run, and its copy in an object store."""
    folder = RunFolder(tmp_path / "runs" / "one")
    folder.claim(RECIPE)
    for number in (2, 10):
        kept_path(folder.path, f"one-a{number}").parent.mkdir(parents=True, exist_ok=True)
        kept_path(folder.path, f"one-a{number}").write_text(f"submission {number}\nzweite Zeile: ä\n", encoding="utf8")
    folder.events_path.write_text('{"event": "step", "step": 0}\n' * 5000)
    (folder.path / "checkpoints").mkdir()
    (folder.path / "checkpoints" / "weights.safetensors").write_bytes(bytes(100_000))
    (folder.path / "export").mkdir()
    (folder.path / "export" / "config.json").write_text("{}")
    url = f"memory://bucket/{tmp_path.name}/one"
    fsspec.filesystem("memory").put(str(folder.path), url, recursive=True)
    return folder, url


def test_a_copy_in_an_object_store_is_read_like_a_run_without_its_weights(copied):
    folder, url = copied
    with seen_here(url) as path:
        assert RunFolder(path).recipe() == RECIPE
        assert RunFolder(path).events_path.read_bytes() == folder.events_path.read_bytes()
        names = {found.relative_to(path).as_posix() for found in path.rglob("*") if found.is_file()}
        assert names == {"recipe.json", "events.jsonl", "logs/driver-one-a2.log", "logs/driver-one-a10.log"}
    assert not path.exists()
    with seen_here(str(folder.path)) as path:
        assert path == folder.path


def test_logs_are_read_from_an_object_store(copied, capsys):
    verbs.logs(copied[1], follow=False)
    assert capsys.readouterr().out == "submission 10\nzweite Zeile: ä\n"
    assert next(iter(kept_lines(copied[1], "one-a2"))) == "submission 2"


def test_an_address_without_a_run_is_refused():
    with pytest.raises(ConfigError, match=r"memory://bucket/nothing: there is no run"):
        list(kept_lines("memory://bucket/nothing"))
    with pytest.raises(ConfigError, match="scheme 'ftp' is not allowed"):
        list(kept_lines("ftp://bucket/nothing"))
