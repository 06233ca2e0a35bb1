import json
import os
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.clusters import upload as module
from ptm_dist.clusters.base import Job
from ptm_dist.clusters.local import Local
from ptm_dist.clusters.upload import File, Upload, gather, human, json_text, pack, plugins
from ptm_dist.errors import ConfigError
from ptm_dist.recipe_io import load_recipe, recipe_to_json
from ptm_dist.recipe_yaml import parse
from tests.tiny import tiny_recipe

JOB = Job(tiny_recipe(), "/shared/runs/one")
OWN = ("recipe.json", "cluster.json")
FAKE_KEY = "AKIA" + "ABCDEFGHIJ234567"


def make(root, *names, text="x"):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def sent(root, *listed, job=JOB):
    return [file.name for file in gather(job, Local(), listed, root).files if file.name not in OWN]


def refused(root, *listed):
    with pytest.raises(ConfigError) as caught:
        gather(JOB, Local(), listed, root)
    return str(caught.value)


def test_without_a_list_only_the_recipe_and_the_cluster_file_are_sent(tmp_path):
    make(tmp_path, "a.txt", "deep/b.txt")
    found = gather(JOB, Local(), (), tmp_path)
    assert [file.name for file in found.files] == ["cluster.json", "recipe.json"]
    assert json.loads(found.files[1].content) == recipe_to_json(JOB.recipe)


def test_what_is_listed_is_sent_with_all_below_it(tmp_path):
    make(tmp_path, "a.txt", "deep/b.txt", "deep/er/c.txt", "other.txt")
    assert sent(tmp_path, "a.txt", "deep") == ["a.txt", "deep/b.txt", "deep/er/c.txt"]
    assert sent(tmp_path, ".") == ["a.txt", "deep/b.txt", "deep/er/c.txt", "other.txt"]


def test_what_may_be_a_secret_or_belongs_elsewhere_is_left_out_by_name(tmp_path):
    kept = ["keep.txt", "model/tokenizer.json", "my_token.py", "deep/data/words.txt", "environment.txt"]
    out = [
        *(".env", ".env.local", "prod.env", "server.pem", "id_rsa", "id_ed25519.pub", "aws_credentials.json", "client_secret.json"),
        *("api.token", "hf_token", ".ssh/config", ".aws/config", ".git/config", ".ptm/jobs/a.json", "runs/one/recipe.json"),
        *("data/x/manifest.json", "deep/.git/HEAD", "deep/.env", "deep/__pycache__/a.pyc", ".netrc", "tls.key"),
    ]
    make(tmp_path, *kept, *out)
    found = gather(JOB, Local(), ["."], tmp_path)
    assert sorted(file.name for file in found.files if file.name not in OWN) == sorted(kept)
    names = [name for name, _ in found.left_out]
    assert all(any(name == path or path.startswith(name) for name in names) for path in out)


def test_a_run_directory_of_any_name_is_left_out(tmp_path):
    make(tmp_path, "mine/recipe.json", "mine/checkpoints/step-1/a", "mine/events.jsonl", "other/notes.txt")
    assert sent(tmp_path, ".") == ["other/notes.txt"]


def test_what_is_listed_by_name_and_may_not_be_sent_is_an_error(tmp_path):
    make(tmp_path, ".env", "runs/one/events.jsonl", ".git/hooks/x")
    for entry in (".env", "runs/one/events.jsonl", "runs", ".git/hooks/x"):
        assert f"upload: {entry}: is not sent" in refused(tmp_path, entry)


@pytest.mark.parametrize("entry", ["/etc/passwd", "../secret", "a/../../b", ""])
def test_a_path_outside_the_directory_is_refused(tmp_path, entry):
    assert "write a path below the directory" in refused(tmp_path, entry)


def test_a_path_that_is_not_there_is_refused(tmp_path):
    assert "there is no such file" in refused(tmp_path, "missing")


def test_ptmignore_leaves_out_and_never_brings_back(tmp_path):
    make(tmp_path, "a.log", "keep.log", "deep/b.log", "deep/c.txt", ".env", "big/x")
    (tmp_path / ".ptmignore").write_text("*.log\n!keep.log\nbig/\n!.env\n# a remark\n")
    assert sent(tmp_path, ".") == ["deep/c.txt", "keep.log"]


@pytest.mark.parametrize(
    "text",
    [
        f"key = {FAKE_KEY}",
        "-----BEGIN OPENSSH " + "PRIVATE KEY-----\nabc",
        "-----BEGIN " + "PRIVATE KEY-----",
        "aws_secret_access_key = " + "a" * 40,
        "ghp_" + "a" * 36,
        "hf_" + "A" * 34,
        "https://hooks." + "slack.com/services/T0000/B0000/abc",
        "xoxb-" + "1234567890-abc",
        "AIza" + "b" * 35,
        "sk-" + "c" * 40,
    ],
)
def test_a_file_that_holds_a_secret_is_refused_by_name_and_the_secret_is_not_shown(tmp_path, text):
    make(tmp_path, "deep/notes.txt", text="x" * 100 + "\n" + text)
    said = refused(tmp_path, "deep")
    assert said.startswith("upload: deep/notes.txt: this file holds ")
    assert text not in said
    (tmp_path / ".ptmignore").write_text("notes.txt\n")
    assert sent(tmp_path, "deep") == []


@given(before=st.integers(min_value=0, max_value=3 << 20))
def test_a_secret_is_found_wherever_in_a_file_it_stands(tmp_path_factory, before):
    path = tmp_path_factory.mktemp("found") / "notes.txt"
    path.write_bytes(b"." * before + f" {FAKE_KEY} ".encode() + b"." * 100)
    with pytest.raises(ConfigError, match="holds a key of AWS"):
        module._require_no_secret(File("notes.txt", path.stat().st_size, path))


def test_a_secret_in_the_recipe_is_refused(tmp_path):
    job = Job(tiny_recipe(name="tiny", sources={"own": {"paths": [f"s3://{FAKE_KEY}@bucket/x.txt"]}}), "/shared/one")
    with pytest.raises(ConfigError, match=r"upload: recipe\.json: this file holds a key of AWS"):
        gather(job, Local(), (), tmp_path)


def test_a_link_that_leaves_the_folder_is_refused_and_one_that_stays_is_followed(tmp_path):
    root = tmp_path / "root"
    make(root, "real/a.txt")
    make(tmp_path, "outside.txt")
    (root / "stays.txt").symlink_to("real/a.txt")
    (root / "folder").symlink_to("real")
    assert sent(root, ".") == ["real/a.txt", "stays.txt"]
    (root / "leaves.txt").symlink_to(tmp_path / "outside.txt")
    assert f"upload: {root}/leaves.txt: this link leaves {root}" in refused(root, ".")
    (root / ".ptmignore").write_text("leaves.txt\n")
    assert sent(root, ".") == ["real/a.txt", "stays.txt"]
    (root / "nowhere").symlink_to("missing")
    assert "this link leads nowhere" in refused(root, ".")


def test_a_link_to_what_is_not_sent_is_refused(tmp_path):
    make(tmp_path, ".env")
    (tmp_path / "harmless.txt").symlink_to(".env")
    assert "this link leads to what is not sent: may hold secrets" in refused(tmp_path, "harmless.txt")


def test_a_link_to_itself_ends(tmp_path):
    make(tmp_path, "a/b.txt")
    (tmp_path / "a" / "loop").symlink_to(".")
    assert sent(tmp_path, "a") == ["a/b.txt"]


def test_a_pipe_is_left_out_and_not_waited_for(tmp_path):
    make(tmp_path, "a.txt")
    os.mkfifo(tmp_path / "pipe")
    assert sent(tmp_path, ".") == ["a.txt"]


def test_names_that_every_submission_has_are_refused(tmp_path):
    make(tmp_path, "recipe.json")
    assert "recipe.json is the name of a file that every submission has" in refused(tmp_path, "recipe.json")


def test_more_than_ray_takes_is_refused_and_the_largest_files_are_named(tmp_path):
    (tmp_path / "big.bin").touch()
    os.truncate(tmp_path / "big.bin", 400 << 20)  # A hole: no disk is used.
    (tmp_path / "bigger.bin").touch()
    os.truncate(tmp_path / "bigger.bin", 450 << 20)
    make(tmp_path, "small.txt")
    said = refused(tmp_path, ".")
    assert "850.0 MiB in 5 files" in said
    assert said.index("bigger.bin 450.0 MiB") < said.index("big.bin 400.0 MiB")


def test_plugins_are_found_at_any_depth():
    recipe = {"a": [{"kind": "mine.deep:One"}, {"kind": "text"}], "b": {"c": {"kind": "other:Two", "d": {"kind": "ptm_dist.x:Y"}}}}
    assert plugins(recipe) == {"mine", "other"}


def test_the_package_of_a_plugin_is_sent(tmp_path, monkeypatch):
    code = "from ptm_dist.optimizers.adam import AdamW\nclass Mine(AdamW):\n    kind: str = 'own_plugin_a.part:Mine'\n"
    make(tmp_path, "lib/own_plugin_a/__init__.py", "lib/own_plugin_a/words.txt", "lib/own_plugin_a/.env", "lib/unrelated.py")
    make(tmp_path, "lib/own_plugin_a/part.py", text=code)
    make(tmp_path, "lib/own_plugin_a/__init__.py", text="")
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    optimizer = {"kind": "own_plugin_a.part:Mine", "learning_rate": 1e-3, "schedule": {"kind": "linear", "warmup_steps": 1}}
    job = Job(tiny_recipe(optimizer=optimizer), "/shared/one")
    assert sent(tmp_path, job=job) == ["own_plugin_a/__init__.py", "own_plugin_a/part.py", "own_plugin_a/words.txt"]


def test_a_plugin_that_is_one_file_and_listed_too_is_sent_once(tmp_path, monkeypatch):
    code = "from ptm_dist.optimizers.adam import AdamW\nclass Mine(AdamW):\n    kind: str = 'own_plugin_b:Mine'\n"
    make(tmp_path, "own_plugin_b.py", text=code)
    monkeypatch.syspath_prepend(str(tmp_path))
    optimizer = {"kind": "own_plugin_b:Mine", "learning_rate": 1e-3, "schedule": {"kind": "linear", "warmup_steps": 1}}
    assert sent(tmp_path, "own_plugin_b.py", job=Job(tiny_recipe(optimizer=optimizer), "/shared/one")) == ["own_plugin_b.py"]


def test_the_zip_holds_what_was_listed_and_equal_files_give_equal_bytes(tmp_path):
    make(tmp_path, "a.txt", "deep/b.txt", text="hello")
    found = gather(JOB, Local(), ["a.txt", "deep"], tmp_path)
    for name in ("one.zip", "two.zip"):
        pack(found, tmp_path / name)
        os.utime(tmp_path / "a.txt", (1, 1))
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert archive.namelist() == [file.name for file in found.files]
        assert archive.read("deep/b.txt") == b"hello"
        assert sum(about.file_size for about in archive.infolist()) == found.size


@given(
    st.recursive(st.text() | st.integers() | st.booleans() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_json_that_is_sent_reads_as_yaml_too(value):
    text = json_text({"value": value})
    assert json.loads(text) == {"value": value}
    if "\\u0000" not in text:
        assert parse(text, "")[0] == {"value": value}


def test_the_recipe_that_is_sent_is_the_same_recipe(tmp_path):
    odd = tiny_recipe(paper="a line\u2028another \u0085 \U0001f600 'quoted' \"twice\"")
    (tmp_path / "recipe.json").write_text(json_text(recipe_to_json(odd)), encoding="utf8")
    assert load_recipe([tmp_path / "recipe.json"]) == odd


@given(st.integers(min_value=0, max_value=1 << 40))
def test_sizes_are_readable(size):
    assert human(size).split()[1] in ("bytes", "KiB", "MiB")
    assert Upload((File("a", size, b""), File("b", size, b"")), ()).size == 2 * size
