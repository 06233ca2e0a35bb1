import json
import os
from pathlib import Path

import pytest
from pydantic import PrivateAttr
from typer.testing import CliRunner

from ptm_dist.cli import jobs as verbs
from ptm_dist.clusters import jobs as module
from ptm_dist.clusters.base import Job, JobState
from ptm_dist.clusters.jobs import Found, Record, find, kept_lines, next_job, record_of, records, resumed, run_of, states, unknown
from ptm_dist.clusters.local import Local
from ptm_dist.clusters.ray import Ray
from ptm_dist.errors import ConfigError
from ptm_dist.kept import kept_path
from ptm_dist.recipe_io import dump_recipe
from ptm_dist.run import RunFolder
from tests.tiny import tiny_recipe

RECIPE = tiny_recipe()
SHARED = {"runs": "/shared/runs", "cache": "/shared/data"}


class Listed(Local):
    """A kind that keeps submissions in a list and starts nothing."""

    _made: list = PrivateAttr(default_factory=list)

    def submit(self, job):
        self._made.append(JobState(job.id, "running", "there"))
        return job.id

    def jobs(self):
        return self._made[::-1]

    def state(self, job_id):
        return next(state for state in self._made if state.id == job_id)


class Gone(Local):
    """A kind whose cluster is gone."""

    def jobs(self):
        raise ConfigError("address: does not answer")

    def logs(self, job_id, follow):
        raise ConfigError("address: does not answer")
        yield


class Forgetful(Listed):
    """A kind whose cluster was set up anew."""

    def state(self, job_id):
        raise ConfigError(f"{job_id}: knows no such job")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cluster(here):
    return Listed(runs=str(here / "runs"))


def test_a_run_lies_below_the_clusters_runs_unless_it_is_said_where():
    ray = Ray(**SHARED)
    name = f"tiny-{RECIPE.digest[:8]}"
    assert run_of(ray, RECIPE, None) == f"/shared/runs/{name}"
    assert run_of(ray, RECIPE, "mine") == "/shared/runs/mine"
    assert run_of(ray, RECIPE, "/elsewhere/mine/") == "/elsewhere/mine"
    assert run_of(Local(), RECIPE, None) == f"{os.getcwd()}/runs/{name}"
    assert run_of(Local(), RECIPE, "folder/mine") == f"{os.getcwd()}/folder/mine"


@pytest.mark.parametrize(
    "run", ["folder/mine", "/shared/a run", "/shared/a;b", "/shared/" + "x" * 65, "/shared/..", "/shared/ä", "s3://bucket/one"]
)
def test_a_run_that_no_submission_could_be_named_after_is_refused(run):
    with pytest.raises(ConfigError, match=r"^--run "):
        run_of(Ray(**SHARED), RECIPE, run)


def test_every_submission_of_a_run_has_a_number_of_its_own(cluster, here):
    run = str(here / "runs" / "one")
    assert next_job(cluster, RECIPE, run).id == "one-a1"
    module.submit(cluster, next_job(cluster, RECIPE, run))
    assert next_job(cluster, RECIPE, run).id == "one-a2"
    # A cluster that was set up anew knows nothing, the record here does; and the run itself, where it can be seen.
    assert next_job(Listed(), RECIPE, run).id == "one-a2"
    kept_path(run, "one-a7").parent.mkdir(parents=True)
    kept_path(run, "one-a7").touch()
    assert next_job(cluster, RECIPE, run).id == "one-a8"
    # Another run whose name begins alike counts for itself.
    assert next_job(cluster, RECIPE, str(here / "runs" / "one-a1")).id == "one-a1-a1"
    assert next_job(cluster, RECIPE, str(here / "runs" / "on")).id == "on-a1"


def test_a_submission_is_found_by_its_id_its_run_however_written_and_what_the_cluster_calls_it(cluster, here):
    run = str(here / "runs" / "one")
    for number in (1, 2):
        module.submit(cluster, Job(RECIPE, run, number))
    for target in ("one-a2", "one", run, "runs/one", "./runs/one/", "runs/../runs/one"):
        assert find(target, cluster).id == "one-a2", target
    assert find("one-a1", cluster).id == "one-a1"
    assert find("one-a3", cluster) is None
    module.write_json(module.RECORDS / "two-a1.json", vars(Record("two-a1", "4711", "s3://bucket/two", 1.0, {"kind": "local"}, {})))
    assert find("4711").id == find("s3://bucket/two").id == find("s3://bucket/two/").id == "two-a1"


def test_without_a_record_the_cluster_is_asked(cluster):
    for number in (1, 2, 10):
        cluster.submit(Job(RECIPE, "/elsewhere/one", number))
    assert records() == []
    assert find("one-a2") is None
    assert find("one-a2", cluster).native == "one-a2"
    assert find("/elsewhere/one", cluster) == Found("one-a10", "one-a10", "/elsewhere/one", cluster)
    assert find("one", cluster).run == f"{cluster.runs}/one"
    assert find("two", cluster) is None


def test_a_cluster_file_that_was_changed_since_is_still_that_of_its_jobs(cluster, here):
    module.submit(cluster, Job(RECIPE, str(here / "runs" / "one"), 1))
    changed = cluster.model_copy(update={"environment": {"OMP_NUM_THREADS": "2"}})
    assert find("one-a1", changed).record is not None
    assert find("one-a1", Listed(name="another")) is None


def test_what_nobody_knows_is_answered_with_the_nearest_that_is_known(cluster, here):
    module.submit(cluster, Job(RECIPE, str(here / "runs" / "quickstart"), 1))
    assert "did you mean quickstart-a1?" in str(unknown("quickstrat-a1"))
    assert "ptm job ls shows" in str(unknown("zzz"))


def test_a_record_can_be_read_by_others_and_opens_the_same_cluster(here):
    cluster = Ray(**SHARED, token_file="secret-token")
    (here / "secret-token").write_text("the-token-itself")
    record = Record("one-a1", "one-a1", "/shared/runs/one", 1.0, module.cluster_json(cluster), module.recipe_to_json(RECIPE))
    module.write_json(module.RECORDS / "one-a1.json", vars(record))
    assert record_of("one-a1") == record
    assert record_of("one-a1").open() == cluster
    assert "the-token-itself" not in (module.RECORDS / "one-a1.json").read_text()
    assert record_of("../one-a1") is record_of("x") is record_of("one-a2") is None


@pytest.mark.parametrize("text", ['{"id": "one-a1"}', "[]", "{}"])
def test_a_file_that_is_no_record_is_named(here, text):
    (here / ".ptm" / "jobs").mkdir(parents=True)
    (here / ".ptm" / "jobs" / "one-a1.json").write_text(text)
    for call in (records, lambda: record_of("one-a1")):
        with pytest.raises(ConfigError, match=r"\.ptm/jobs/one-a1\.json: this is no record"):
            call()


def test_the_next_submission_has_the_recipe_of_the_run_and_without_it_of_the_record(cluster, here):
    run = here / "runs" / "one"
    module.submit(cluster, Job(RECIPE, str(run), 1))
    assert resumed(find("one-a1")) == Job(RECIPE, str(run), 2)
    longer = tiny_recipe(stages=[{"name": "main", "steps": {"mlm": 50}}])
    RunFolder(run).claim(longer)
    assert resumed(find("one-a1")).recipe == longer
    with pytest.raises(ConfigError, match="its recipe is not known"):
        resumed(Found("two-a1", "two-a1", "/elsewhere/two", cluster))


def test_a_cluster_that_does_not_answer_hides_no_record(cluster, here):
    module.submit(cluster, Job(RECIPE, str(here / "runs" / "one"), 1))
    rows, problems = states(cluster)
    assert [(state.id, state.phase, record.id) for state, record in rows] == [("one-a1", "running", "one-a1")]
    assert problems == []
    gone = Gone(name="gone")
    module.write_json(module.RECORDS / "two-a1.json", vars(Record("two-a1", "two-a1", "/r/two", 1.0, module.cluster_json(gone), {})))
    rows, problems = states(gone)
    assert [(state.id, state.phase, state.native) for state, _ in rows] == [("two-a1", "unknown", "not reached")]
    assert problems == ["address: does not answer"]


def test_logs_are_read_from_the_run_when_the_cluster_is_gone(here, monkeypatch, capsys):
    run = here / "runs" / "one"
    kept_path(run, "one-a1").parent.mkdir(parents=True)
    kept_path(run, "one-a1").write_text("first\nsecond\n")
    monkeypatch.setattr(module, "cluster_from_json", lambda value, name: Gone(runs=str(here / "runs")))
    module.write_json(module.RECORDS / "one-a1.json", vars(Record("one-a1", "one-a1", str(run), 1.0, {}, {})))
    verbs.logs("one-a1", follow=True)
    assert capsys.readouterr().out == "first\nsecond\n"
    with pytest.raises(ConfigError, match="no log of two-a1 is kept"):
        list(kept_lines(str(run), "two-a1"))


def invoke(*words):
    return CliRunner().invoke(verbs.job_app, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture
def files(here):
    (here / "recipe.yaml").write_text(dump_recipe(RECIPE))
    (here / "local.yaml").write_text("kind: local\nenvironment: {OMP_NUM_THREADS: '1'}\n")
    (here / "ray.yaml").write_text("kind: ray\nruns: /shared/runs\ncache: /shared/data\naddress: http://127.0.0.1:9\nupload: [notes]\n")
    (here / "notes").mkdir()
    (here / "notes" / "a.txt").write_text("hello")
    (here / "notes" / ".env").write_text("X=1")


def test_a_dry_run_prints_all_that_would_be_sent_and_sends_nothing(files, here):
    before = sorted(here.rglob("*"))
    told = invoke("submit", "recipe.yaml", "name=mine", "--cluster", "local.yaml", "--dry-run").stdout
    assert "job mine-" in told
    assert "-a1 to ptm (local), run " in told
    assert "recipe.json" in told
    assert "OMP_NUM_THREADS=1" in told
    assert told.endswith("nothing was sent\n")
    assert sorted(here.rglob("*")) == before


def test_a_dry_run_lists_the_upload_although_the_cluster_does_not_answer(files):
    told = invoke("submit", "recipe.yaml", "--run", "mine", "--cluster", "ray.yaml", "--dry-run").stdout
    assert "the number is a guess, since the cluster was not asked: address: http://127.0.0.1:9 does not answer" in told
    assert "job mine-a1 to ptm (ray), run /shared/runs/mine" in told
    assert [line.split()[1:] for line in told.splitlines() if line.split()[0] == "notes/a.txt"] == [["5", "bytes"]]
    assert "notes/.env: may hold secrets" in told
    assert "  3 files, " in told
    assert "entrypoint" in told
    with pytest.raises(ConfigError, match=r"http://127\.0\.0\.1:9 does not answer"):
        invoke("submit", "recipe.yaml", "--cluster", "ray.yaml")


def test_ls_says_what_to_do_where_nothing_was_submitted():
    assert "nothing was submitted from here" in invoke("ls").stdout


def test_a_job_that_is_unknown_is_an_error_of_every_verb(files):
    calls = [
        lambda: invoke("resume", "one-a1"),
        lambda: verbs.status_of_job("one-a1"),
        lambda: verbs.logs("one-a1", follow=False),
        lambda: verbs.stop("one-a1", now=False),
        lambda: verbs.logs("one-a1", follow=False, cluster=Path("local.yaml")),
    ]
    for call in calls:
        with pytest.raises(ConfigError, match="one-a1: no submission of it is recorded"):
            call()
    assert verbs.job_of("one-a1") is None


def test_a_job_that_runs_is_not_submitted_again(cluster, here, monkeypatch):
    module.submit(cluster, Job(RECIPE, str(here / "runs" / "one"), 1))
    monkeypatch.setattr(module, "cluster_from_json", lambda value, name: cluster)
    with pytest.raises(ConfigError, match=r"one-a1 is running; stop it first"):
        invoke("resume", "one-a1")


def test_a_job_that_its_cluster_has_forgotten_is_submitted_again(cluster, here, monkeypatch):
    module.submit(cluster, Job(RECIPE, str(here / "runs" / "one"), 1))
    anew = Forgetful(runs=cluster.runs)
    monkeypatch.setattr(module, "cluster_from_json", lambda value, name: anew)
    assert "submitted: one-a2" in invoke("resume", "one-a1").stdout


def test_a_record_is_json_that_says_where_it_went(cluster, here):
    module.submit(cluster, Job(RECIPE, str(here / "runs" / "one"), 1))
    plain = json.loads((here / ".ptm" / "jobs" / "one-a1.json").read_text())
    assert (plain["id"], plain["run"], plain["cluster"]["kind"]) == ("one-a1", str(here / "runs" / "one"), "local")
