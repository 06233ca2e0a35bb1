import json
from pathlib import Path

import pytest

from ptm_dist.clusters.base import cluster_json
from ptm_dist.clusters.files import cluster_from_json, load_cluster
from ptm_dist.clusters.local import Local
from ptm_dist.clusters.upload import json_text
from ptm_dist.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs" / "cluster"


def written(tmp_path, text):
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    return path


def refused(tmp_path, text):
    with pytest.raises(ConfigError) as caught:
        load_cluster(written(tmp_path, text))
    return str(caught.value)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_in_configs_is_read_and_survives_the_way_to_the_cluster(path, tmp_path):
    cluster = load_cluster(path)
    sent = tmp_path / "cluster.json"
    sent.write_text(json_text(cluster_json(cluster)), encoding="utf8")
    assert load_cluster(sent) == cluster == cluster_from_json(json.loads(sent.read_text()), "a record")


def test_a_file_says_only_what_differs(tmp_path):
    read = load_cluster(written(tmp_path, "kind: local\nsupervise: {restarts: 2}\n"))
    assert read == Local.model_validate({"supervise": {"restarts": 2}})


def test_a_misspelt_key_is_answered_with_the_nearest_right_one_and_its_line(tmp_path):
    said = refused(tmp_path, "kind: local\nsupervise:\n  restart: 3\n")
    assert said == f"supervise.restart: unknown key; did you mean restarts? ({tmp_path}/cluster.yaml:3)"


def test_a_key_in_the_wrong_place_is_answered_with_the_right_place(tmp_path):
    assert "capacity_seconds: unknown key; here: supervise.capacity_seconds" in refused(tmp_path, "kind: local\ncapacity_seconds: 3\n")


def test_an_unknown_key_inside_a_list_is_found(tmp_path):
    text = "kind: local\nnotify:\n- kind: json\n  url_file: x\n  url: y\n"
    assert f"notify.0.url: unknown key; did you mean url_file? ({tmp_path}/cluster.yaml:5)" in refused(tmp_path, text)


def test_free_names_are_no_unknown_keys(tmp_path):
    assert load_cluster(written(tmp_path, "kind: local\nenvironment: {OMP_NUM_THREADS: '1'}\n")).environment == {"OMP_NUM_THREADS": "1"}


def test_every_problem_has_its_line(tmp_path):
    said = refused(tmp_path, "kind: ray\nruns: 3\nstop_seconds: 1.5\n").splitlines()
    assert [line.partition(":")[0] for line in said] == ["runs", "stop_seconds"]
    assert all(f"({tmp_path}/cluster.yaml:{number})" in line for number, line in zip((2, 3), said, strict=True))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: x\n", "kind: missing"),
        ("kind: rays\n", 'kind: "rays" is none of the kinds; did you mean ray? '),
        ("kind: 3\n", 'kind: "3" is none of the kinds; one of: local, ray'),
        ("- local\n", "a cluster file is a mapping"),
        ("kind: local\nkind: ray\n", "kind is given twice"),
        ("kind: local\nname: Big Cluster\n", "name: "),
        ("kind: local\nenvironment: {OMP_NUM_THREADS: 1}\n", 'OMP_NUM_THREADS: "1"'),
        ("kind: local\nsupervise: {wait_seconds: 9, longest_wait_seconds: 3}\n", "supervise.longest_wait_seconds is less"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path, text, said):
    found = refused(tmp_path, text)
    assert said in found
    assert f"{tmp_path}/cluster.yaml" in found


@pytest.mark.parametrize("name", ["HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "DB_PASSWORD", "WANDB_API_KEY", "github_token"])
def test_a_variable_that_is_a_secret_is_refused(tmp_path, name):
    said = refused(tmp_path, f"kind: local\nenvironment:\n  {name}: abc\n")
    assert f"{name}: whoever may see the job can read this" in said
    assert "abc" not in said


@pytest.mark.parametrize("name", ["TOKENIZERS_PARALLELISM", "RAY_AUTH_TOKEN_PATH", "MONKEY", "NCCL_IB_PKEY"])
def test_a_variable_that_only_sounds_like_one_is_taken(tmp_path, name):
    assert load_cluster(written(tmp_path, f"kind: local\nenvironment: {{{name}: 'x'}}\n")).environment == {name: "x"}


def test_a_file_that_is_not_there_is_answered_with_one_that_is(tmp_path):
    written(tmp_path, "kind: local\n")
    with pytest.raises(ConfigError, match=r"did you mean .*/cluster\.yaml\?"):
        load_cluster(tmp_path / "clusters.yaml")


def test_text_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "c.yaml").write_bytes(b"kind: local\n# \xff\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_cluster(tmp_path / "c.yaml")
