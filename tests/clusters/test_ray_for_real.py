"""The kind ray against a head that is started here: one after the other, the last test ends the head."""

import json
import sys
import time
from pathlib import Path

import pytest
import requests
from typer.testing import CliRunner

from ptm_dist.cli.jobs import job_app, logs, status_of_job, stop
from ptm_dist.clusters.base import Job
from ptm_dist.clusters.files import load_cluster
from ptm_dist.errors import ConfigError
from ptm_dist.kept import kept_path
from ptm_dist.recipe_io import dump_recipe
from ptm_dist.recipe_yaml import dump
from ptm_dist.run import RunFolder
from tests.clusters.heads import Head
from tests.clusters.waiting import until_step
from tests.tiny import ledger, tiny_recipe

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
STEPS = 120


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("submitted")


@pytest.fixture(scope="module")
def head(home):
    head = Head(home)
    yield head
    head.end()


@pytest.fixture
def here(home, head, monkeypatch):
    """A directory to submit from, with a recipe and the cluster's file."""
    monkeypatch.chdir(home)
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    write(home / "ray.yaml", head)
    (home / "recipe.yaml").write_text(dump_recipe(tiny_recipe(stages=[{"name": "main", "steps": {"mlm": STEPS}}])))
    return home


def write(path: Path, head: Head, **changes):
    plain = {
        "kind": "ray",
        "name": "test",
        "address": head.address,
        "token_file": str(head.token_file),
        "python": sys.executable,
        "runs": str(path.parent / "runs"),
        "cache": str(path.parent / "data"),
        "upload": ["notes"],
        "stop_seconds": 120,
    }
    path.write_text(dump({key: value for key, value in (plain | changes).items() if value is not None}))
    (path.parent / "notes").mkdir(exist_ok=True)
    (path.parent / "notes" / "words.txt").write_text("sent along")
    return load_cluster(path)


def invoke(*words):
    return CliRunner().invoke(job_app, list(words), catch_exceptions=False).stdout


def ended(cluster, job_id, seconds=300.0):
    deadline = time.monotonic() + seconds
    while (state := cluster.state(job_id)).phase in ("pending", "running") and time.monotonic() < deadline:
        time.sleep(0.3)
    return state


def everything_that_ray_tells(head):
    headers = {"Authorization": f"Bearer {head.token}"}
    paths = ("/api/jobs/", "/api/version", "/nodes?view=summary", "/api/v0/actors?detail=1", "/api/v0/runtime_envs")
    return "".join(requests.get(f"{head.address}{path}", headers=headers, timeout=30).text for path in paths)


def test_a_wrong_token_and_none_are_refused_and_start_nothing(here, head, tmp_path):
    (tmp_path / "wrong").write_text("b" * 64)
    (tmp_path / "wrong").chmod(0o600)
    recipe = tiny_recipe()
    for token_file, said in ((str(tmp_path / "wrong"), "refuses the token"), (None, "asks for a token")):
        cluster = write(here / "other.yaml", head, token_file=token_file)
        for call in (cluster.jobs, lambda c=cluster: c.submit(Job(recipe, str(tmp_path / "one"))), lambda c=cluster: c.state("one-a1")):
            with pytest.raises(ConfigError, match=said) as caught:
                call()
            assert "b" * 64 not in str(caught.value)
    assert load_cluster(here / "ray.yaml").jobs() == []


def test_variables_of_another_ray_do_not_lead_elsewhere(here, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:9")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:9")
    assert load_cluster(here / "ray.yaml").jobs() == []


def test_every_node_is_looked_at(here):
    found = list(load_cluster(here / "ray.yaml").check())
    assert [finding.text for finding in found if not finding.fine] == []
    told = "\n".join(finding.text for finding in found)
    for part in ("answers", "the cluster asks for a token", "Ray 2.60", "Python 3.1", "ptm_dist 0.1.0", "shared memory", "clock", "CPUs"):
        assert part in told
    assert f"{here}/runs is written and read" in told
    assert not list((here / "runs").glob(".ptm-check*"))


def test_a_word_that_looks_like_a_command_is_none(here, head, tmp_path):
    recipe = tiny_recipe()
    run = tmp_path / "taken"
    RunFolder(run).claim(tiny_recipe(seed=8))  # Of another recipe, so that the driver ends at once.
    cluster = write(here / "other.yaml", head, cache=f"{tmp_path}/c; touch {tmp_path}/X; $(touch {tmp_path}/Y)")
    job = Job(recipe, str(run))
    cluster.submit(job)
    state = ended(cluster, job.id)
    assert (state.phase, state.exit_code) == ("failed", 22)
    assert "holds a run of another recipe" in state.message
    assert not (tmp_path / "X").exists()
    assert not (tmp_path / "Y").exists()
    with pytest.raises(ConfigError, match="taken-a1 is not running: FAILED"):
        cluster.stop(job.id, now=False)
    with pytest.raises(ConfigError, match=r"refuses: .*taken-a1"):
        cluster.submit(job)
    with pytest.raises(ConfigError, match="knows no such job"):
        cluster.state("taken-a2")


def test_a_run_is_submitted_listed_stopped_and_resumed(here, head, capsys):
    told = invoke("submit", "recipe.yaml", "--run", "one", "--cluster", "ray.yaml")
    assert "notes/words.txt" in told
    assert "submitted: one-a1" in told
    cluster, run = load_cluster(here / "ray.yaml"), here / "runs" / "one"
    until_step(run, 10)
    assert ["one-a1", "running", "RUNNING"] in [line.split()[:3] for line in invoke("ls").splitlines()]
    assert status_of_job("one").startswith("job one-a1 on test (ray): running (RUNNING)")
    stop(str(run), now=False)
    told = capsys.readouterr().out
    assert "one-a1: stopped (STOPPED, exit 10: stopped on request, checkpoint written" in told
    assert "stopped at step" in told
    assert 10 < len(ledger(run)) < STEPS

    assert "submitted: one-a2" in invoke("resume", "one-a1")
    logs("one-a2", follow=True)
    followed = capsys.readouterr().out
    assert "resuming at step" in followed
    state = ended(cluster, "one-a2")
    assert (state.phase, state.exit_code) == ("finished", 0)
    assert [step for step, _ in ledger(run)] == list(range(STEPS))
    assert followed.endswith(kept_path(run, "one-a2").read_text())  # Before it, Ray tells what it runs.


def test_nothing_that_ray_or_the_run_tells_holds_the_token(here, head):
    assert head.token not in everything_that_ray_tells(head)
    texts = [path.read_bytes() for folder in ("runs", ".ptm") for path in (here / folder).rglob("*") if path.is_file()]
    assert len(texts) > 10
    assert not any(head.token.encode() in text for text in texts)


def test_a_job_is_ended_at_once_without_saving(here, head, capsys):
    invoke("submit", "recipe.yaml", "--run", "two", "--cluster", "ray.yaml")
    until_step(here / "runs" / "two", 3)
    stop("two-a1", now=True)
    assert "two-a1: stopped (STOPPED, exit 11" in capsys.readouterr().out


def test_logs_can_be_read_when_the_cluster_is_gone(here, head, capsys):
    head.end()
    logs("one-a1", follow=True)
    assert "stopped at step" in capsys.readouterr().out
    told = invoke("ls")
    assert "not reached" in told
    assert "does not answer" in told
    with pytest.raises(ConfigError, match="does not answer"):
        status_of_job("one-a1")
    records = [json.loads(path.read_text()) for path in (here / ".ptm" / "jobs").glob("*.json")]
    assert {record["id"] for record in records} == {"one-a1", "one-a2", "two-a1"}
