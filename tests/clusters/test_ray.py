import json
import shlex
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import pytest

from ptm_dist.clusters.base import Job
from ptm_dist.clusters.files import load_cluster
from ptm_dist.clusters.ray import Ray, _state_of, is_loopback
from ptm_dist.clusters.ray_check import of_address, of_nodes, of_room
from ptm_dist.clusters.ray_client import read_token
from ptm_dist.clusters.upload import LIMIT_BYTES
from ptm_dist.errors import ConfigError
from ptm_dist.recipe_yaml import parse
from tests.tiny import tiny_recipe

ROOT = Path(__file__).parents[2]
SHARED = {"runs": "/shared/runs", "cache": "/shared/data"}
JOB = Job(tiny_recipe(), "/shared/runs/one")


def wrong(**fields):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - pydantic's own; the text is looked at
        Ray(**(SHARED | fields))
    return str(caught.value)


@pytest.mark.parametrize("address", ["http://127.0.0.1:8265", "http://localhost:8265/", "http://[::1]:8265", "https://127.1.2.3"])
def test_loopback_needs_no_token(address):
    assert is_loopback(address)
    assert Ray(**SHARED, address=address).token_file is None


@pytest.mark.parametrize("address", ["http://10.0.0.1:8265", "http://head:8265", "https://ray.example", "http://0.0.0.0:8265"])
def test_beyond_loopback_a_token_is_needed(address):
    assert "token_file: missing; whoever reaches" in wrong(address=address)
    assert Ray(**SHARED, address=address, token_file="~/token").address == address


@pytest.mark.parametrize("address", ["127.0.0.1:8265", "ray://127.0.0.1:10001", "http://user:pass@127.0.0.1:8265", "auto", "http://a b"])
def test_only_the_jobs_api_without_a_password_is_an_address(address):
    assert "address" in wrong(address=address)


@pytest.mark.parametrize("key", ["runs", "cache"])
def test_a_folder_that_ray_would_remove_is_refused(key):
    assert f"{key}: write the whole path" in wrong(**{key: "runs"})


def test_a_token_file_that_others_may_read_is_refused_without_its_text(tmp_path):
    path = tmp_path / "token"
    for mode in (0o644, 0o640, 0o604):
        path.write_text("the-token")
        path.chmod(mode)
        with pytest.raises(ConfigError, match=rf"others may read it \(mode {mode:04o}\)\. Run: chmod 600") as caught:
            read_token(str(path))
        assert "the-token" not in str(caught.value)
    path.chmod(0o600)
    assert read_token(str(path)) == "the-token"


@pytest.mark.parametrize("text", ["", "two words", "\n"])
def test_a_file_that_holds_no_token_is_refused(tmp_path, text):
    (tmp_path / "token").write_text(text)
    (tmp_path / "token").chmod(0o600)
    with pytest.raises(ConfigError, match="holds no token"):
        read_token(str(tmp_path / "token"))


def test_a_token_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=f"token_file: {tmp_path}/token: cannot be read"):
        Ray(**SHARED, token_file=str(tmp_path / "token")).jobs()


def test_a_cluster_that_does_not_answer_is_an_error_of_one_line():
    for call in (
        lambda ray: ray.jobs(),
        lambda ray: ray.submit(JOB),
        lambda ray: ray.stop("one-a1", now=False),
        lambda ray: ray.state("x"),
    ):
        with pytest.raises(ConfigError, match=r"^address: http://127\.0\.0\.1:9 does not answer \(Connection refused\)\."):
            call(Ray(**SHARED, address="http://127.0.0.1:9"))
    assert [finding.fine for finding in Ray(**SHARED, address="http://127.0.0.1:9").check()] == [False]


def planned(tmp_path, monkeypatch, **fields):
    monkeypatch.chdir(tmp_path)
    return {part.name: part for part in Ray(**(SHARED | fields)).plan(JOB)}


def test_the_plan_lists_every_file_the_command_and_the_variables(tmp_path, monkeypatch):
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / ".env").write_text("X=1")
    sent = planned(tmp_path, monkeypatch, upload=("notes.txt", "more"), environment={"OMP_NUM_THREADS": "1"})
    assert list(sent) == ["cluster.json", "notes.txt", "recipe.json", "entrypoint", "environment", "left out"]
    assert sent["notes.txt"].bytes == 5
    assert sent["left out"].text == "more/.env: may hold secrets\n"
    assert sent["entrypoint"].text == (
        "python -m ptm_dist.kept /shared/runs/one/logs/driver-one-a1.log "
        "python -m ptm_dist train recipe.json --run /shared/runs/one --cache /shared/data --cluster cluster.json"
    )
    variables = dict(line.split("=", 1) for line in sent["environment"].text.splitlines())
    assert variables["RAY_JOB_STOP_SIGNAL"] == "SIGINT"
    assert variables["RAY_JOB_STOP_WAIT_TIME_S"] == "600"
    assert variables["OMP_NUM_THREADS"] == "1"


def test_the_stop_signal_is_one_that_ray_knows():
    source = files("ray").joinpath("dashboard/modules/job/job_supervisor.py").read_text()
    assert 'VALID_STOP_SIGNALS = ["SIGINT", "SIGTERM"]' in source
    assert "RAY_JOB_STOP_WAIT_TIME_S" in source


def test_the_time_to_save_comes_from_the_run_where_it_can_be_seen(tmp_path, monkeypatch):
    run = tmp_path / "one"
    run.mkdir()
    events = [{"event": "step", "step": 1, "seconds": 40.0}, {"event": "checkpoint_saved", "step": 1, "seconds": 100.0}]
    (run / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    ray = Ray(runs=str(tmp_path), cache="/shared")
    told = {part.name: part.text for part in ray.plan(Job(tiny_recipe(), str(run)))}["environment"]
    seconds = int(dict(line.split("=", 1) for line in told.splitlines())["RAY_JOB_STOP_WAIT_TIME_S"])
    assert 140 < seconds < 600


@pytest.mark.parametrize("odd", ["a b", "; touch X", "$(touch X)", "`touch X`", "a'b", 'a"b', "&& x", "ä", "*"])
def test_no_word_of_the_command_can_become_another(tmp_path, monkeypatch, odd):
    sent = planned(tmp_path, monkeypatch, cache=f"/shared/{odd}")
    words = shlex.split(sent["entrypoint"].text)
    assert words[words.index("--cache") + 1] == f"/shared/{odd}"
    assert words[-2:] == ["--cluster", "cluster.json"]


def test_nothing_that_is_sent_holds_the_token(tmp_path, monkeypatch):
    (tmp_path / "token").write_text("the-token-itself")
    (tmp_path / "token").chmod(0o600)
    sent = planned(tmp_path, monkeypatch, token_file=str(tmp_path / "token"))
    assert "the-token-itself" not in "".join(part.text for part in sent.values())


def details(status, code=None, message=""):
    return SimpleNamespace(status=status, driver_exit_code=code, message=message, submission_id="one-a1")


ENDED_10 = "x\nerror: stopped at step 12 as asked; the state is saved.\nexit 10: stopped\ndriver ended with exit code 10 (stopped)\n"


@pytest.mark.parametrize(
    ("status", "code", "log", "phase", "exit_code"),
    [
        ("PENDING", None, "", "pending", None),
        ("RUNNING", None, "", "running", None),
        ("SUCCEEDED", 0, "", "finished", 0),
        ("STOPPED", None, ENDED_10, "stopped", 10),
        ("STOPPED", None, "", "stopped", None),
        ("STOPPED", None, "driver ended with exit code 0 (done)\n", "finished", 0),
        ("FAILED", 10, "", "stopped", 10),
        ("FAILED", 60, "", "failed", 60),
        ("FAILED", None, "", "failed", None),
        ("SOMETHING NEW", None, "", "unknown", None),
    ],
)
def test_what_ray_calls_a_state_and_what_the_driver_said_make_the_phase(status, code, log, phase, exit_code):
    state = _state_of(details(status, code), log)
    assert (state.phase, state.exit_code, state.native) == (phase, exit_code, status)


def test_the_message_is_what_the_driver_said_last():
    assert _state_of(details("STOPPED"), ENDED_10).message == "stopped at step 12 as asked; the state is saved."
    assert _state_of(details("FAILED", None, "The runtime environment failed\nTraceback"), "").message == "The runtime environment failed"


def node(**changes):
    import importlib.metadata
    import platform

    plain = {
        "node": "abcdef0123456789",
        "host": "n1",
        "python": platform.python_version(),
        "packages": {"ray": importlib.metadata.version("ray"), "ptm_dist": importlib.metadata.version("ptm_dist")},
        "shared_bytes": 8 << 30,
        "resources": {"CPU": 4.0},
        "folders": {"/r": {"error": "", "free_bytes": 9 << 30}},
        "seen": {"/r": ["abcdef0123456789"]},
        "skew_seconds": 0.1,
        "unsure_seconds": 0.01,
    }
    return plain | changes


def fixes(*nodes):
    return [finding.text for finding in of_nodes(nodes, ["/r"]) if not finding.fine]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"python": "3.8.1"}, "node n1: Python 3.8.1"),
        ({"packages": {"ray": "2.1.0", "ptm_dist": "0.1.0"}}, "node n1: ray 2.1.0; install "),
        ({"packages": {"ray": "2.60.0", "ptm_dist": ""}}, "node n1: ptm_dist missing; install 0.1.0, as here"),
        ({"shared_bytes": 64 << 20}, "node n1: 64 MiB of shared memory"),
        ({"skew_seconds": -7.5}, "node n1: clock -7.50 s from the head's"),
        ({"folders": {"/r": {"error": "Permission denied", "free_bytes": 0}}}, "node n1: /r cannot be written (Permission denied)"),
        ({"folders": {"/r": {"error": "", "free_bytes": 1 << 20}}}, "node n1: /r is written and read, 0.0 GiB free"),
        ({"error": "ActorUnschedulableError: x"}, "node n1: could not be looked at"),
    ],
)
def test_a_node_that_lacks_something_is_named_with_what_to_do(changes, said):
    assert fixes(node()) == []
    assert [text for text in fixes(node(**changes)) if text.startswith(said)]


def test_a_folder_that_is_another_one_on_each_node_is_found_out():
    one = node()
    two = node(node="fedcba", host="n2", seen={"/r": ["fedcba"]})
    assert [text.partition(";")[0] for text in fixes(one, two)] == [
        "node n1: /r does not show what 1 other nodes wrote there: it is not one shared storage. Mount one",
        "node n2: /r does not show what 1 other nodes wrote there: it is not one shared storage. Mount one",
    ]
    together = ["abcdef0123456789", "fedcba"]
    assert fixes(one | {"seen": {"/r": together}}, two | {"seen": {"/r": together}}) == []


def test_too_few_processors_for_the_least_workers_are_told():
    assert [finding.fine for finding in of_room([node(), node()], 8)] == [True]
    assert [finding.fine for finding in of_room([node(), node()], 9)] == [False]
    gpus = [node(resources={"CPU": 64.0, "GPU": 8.0})] * 2
    assert [finding.fine for finding in of_room(gpus, 16)] == [True, True]
    assert [finding.fine for finding in of_room(gpus, 17)] == [True, False]


def test_a_cluster_without_tokens_and_a_token_in_clear_are_told():
    assert [finding.fine for finding in of_address("http://127.0.0.1:1", None, asks=False)] == [False]
    assert [finding.fine for finding in of_address("http://127.0.0.1:1", "t", asks=True)] == [True]
    assert [finding.fine for finding in of_address("http://10.0.0.1:1", "t", asks=True)] == [True, False]
    assert [finding.fine for finding in of_address("https://10.0.0.1:1", "t", asks=True)] == [True]


def test_the_file_for_ray_up_is_one_by_rays_own_schema():
    cluster = load_cluster(ROOT / "configs" / "cluster" / "ray.yaml")
    rendered = cluster.render()
    assert list(rendered) == ["ray/cluster.yaml"]
    assert rendered["ray/cluster.yaml"] == (ROOT / "launch" / "ray" / "cluster.yaml").read_text(), "ptm cluster render writes it anew"
    plain, _ = parse(rendered["ray/cluster.yaml"], "cluster.yaml")
    schema = json.loads(files("ray").joinpath("autoscaler/ray-schema.json").read_text())
    jsonschema.validate(plain, schema)
    assert plain["provider"]["head_ip"] == cluster.machines.head
    assert "--dashboard-host=127.0.0.1" in plain["head_start_ray_commands"][-1]
    assert all("RAY_AUTH_MODE=token" in plain[f"{role}_start_ray_commands"][-1] for role in ("head", "worker"))
    assert Ray(**SHARED).render() == {}


def test_the_limit_is_not_above_rays_own():
    from ray._private.runtime_env.packaging import GCS_STORAGE_MAX_SIZE

    assert LIMIT_BYTES <= GCS_STORAGE_MAX_SIZE
