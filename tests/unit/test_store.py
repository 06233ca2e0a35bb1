"""Files: allowed schemes, atomic writes, disks that fail."""

import gzip
import os
import subprocess

import pytest

from ptm_dist.errors import ConfigError, DataUnavailableError, StorageError
from ptm_dist.store import canonical_json, digest, open_url, read_json, split_scheme, write_atomic, write_json


@pytest.mark.parametrize("url", ["pipe:touch X", "PIPE:ls", "ftp://host/x", "ssh://host/x", "javascript:x", "s4://bucket/x"])
def test_schemes_that_are_not_on_the_list_are_refused(url):
    with pytest.raises(ConfigError, match="not allowed"):
        split_scheme(url)


@pytest.mark.parametrize("url", ["a/b.txt", "/x:y/z", "file:///a", "s3://b/c", "https://h/x"])
def test_paths_and_known_schemes_pass(url):
    assert split_scheme(url) in {"file", "s3", "https"}


def test_compressed_files_are_read_by_their_ending(tmp_path):
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"text"))
    with open_url(str(tmp_path / "a.txt.gz")) as file:
        assert file.read() == b"text"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataUnavailableError, match=r"nowhere\.txt"):
        open_url(str(tmp_path / "nowhere.txt"))


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})

    def full(*_):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError, match="disk is full"):
        write_json(path, {"a": 2})
    assert read_json(path) == {"a": 1}
    assert os.listdir(tmp_path) == ["x.json"]


def test_a_read_only_disk_is_named(tmp_path):
    mount = tmp_path / "ro"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", str(mount)], capture_output=True, check=False).returncode:
        pytest.skip("mounting needs root")
    try:
        with pytest.raises(StorageError, match="read-only"):
            write_atomic(mount / "x", b"1")
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_digests_do_not_depend_on_the_order_of_keys():
    assert canonical_json({"b": 1, "a": [1, 2]}) == '{"a":[1,2],"b":1}'
    assert digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
