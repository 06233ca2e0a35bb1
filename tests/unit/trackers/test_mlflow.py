"""MLflow has one run over all attempts, and hears of each step once: with a stand-in of its interface, and with itself over files."""

import sys
from types import SimpleNamespace

import pytest

from ptm_dist.trackers.mlflow import MLflow
from tests.unit.trackers.story import KILLED, TOTAL, live_through, loss, make_run


class Server:
    """Keeps runs, as the signatures of MlflowClient 3 say: a point can be added, never changed."""

    def __init__(self):
        self.experiments, self.runs = {}, {}
        self.entities = SimpleNamespace(
            Metric=lambda key, value, timestamp, step: (key, value, timestamp, step), Param=lambda key, value: (key, value)
        )

    def MlflowClient(self, tracking_uri=None, registry_uri=None):
        assert tracking_uri == "https://tracking.example.org"
        return self

    def get_experiment_by_name(self, name):
        return SimpleNamespace(experiment_id=self.experiments[name]) if name in self.experiments else None

    def create_experiment(self, name, artifact_location=None, tags=None):
        self.experiments[name] = str(len(self.experiments))
        return self.experiments[name]

    def create_run(self, experiment_id, start_time=None, tags=None, run_name=None):
        made = f"run-{len(self.runs)}"
        self.runs[made] = {"experiment": experiment_id, "name": run_name, "status": ["RUNNING"], "metrics": [], "params": {}}
        return SimpleNamespace(info=SimpleNamespace(run_id=made))

    def log_batch(self, run_id, metrics=(), params=(), tags=(), synchronous=None):
        assert len(params) <= 100
        assert all(len(value) <= 500 for _, value in params)
        self.runs[run_id]["metrics"] += metrics
        self.runs[run_id]["params"].update(params)

    def update_run(self, run_id, status=None, name=None):
        self.runs[run_id]["status"].append(status)

    def set_terminated(self, run_id, status=None, end_time=None):
        self.runs[run_id]["status"].append(status)


def check(points):
    """Check that there is each step once, and that the first word stays."""
    assert sorted(step for step, _ in points) == list(range(1, TOTAL + 1))
    assert dict(points) == {done: loss(done - 1, 1 if done <= KILLED else 2) for done in range(1, TOTAL + 1)}


def test_all_attempts_are_one_run_and_no_point_is_there_twice(tmp_path, monkeypatch):
    server = Server()
    monkeypatch.setitem(sys.modules, "mlflow", server)
    settings = MLflow(tracking_uri="https://tracking.example.org", experiment="mine", every_steps=1)
    live_through(settings, make_run(tmp_path / "one"))
    live_through(settings, make_run(tmp_path / "two"))
    assert len(server.experiments) == 1
    assert [run["name"] for run in server.runs.values()] == ["one", "two"]
    for run in server.runs.values():
        check([(step, value) for key, value, _, step in run["metrics"] if key == "loss/mlm"])
        assert run["status"] == ["RUNNING", "RUNNING", "FINISHED"]
        assert run["params"]["model.hidden"] == "32"
        assert not [key for key in run["params"] if key.startswith("sources")]
        milliseconds = [timestamp for _, _, timestamp, _ in run["metrics"]]
        assert min(milliseconds) > 1_600_000_000_000


def test_an_attempt_that_did_not_end_the_run_leaves_it_killed(tmp_path, monkeypatch):
    server = Server()
    monkeypatch.setitem(sys.modules, "mlflow", server)
    live_through(MLflow(tracking_uri="https://tracking.example.org"), make_run(tmp_path)).close()
    assert server.runs["run-0"]["status"][-1] == "KILLED"


def test_the_real_package_keeps_one_run(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # What needs no database; MLflow keeps it, and develops it no further.
    uri = f"file:{tmp_path / 'mlruns'}"
    live_through(MLflow(tracking_uri=uri, every_steps=1), make_run(tmp_path / "run"))
    client = mlflow.MlflowClient(tracking_uri=uri)
    (found,) = client.search_runs([client.get_experiment_by_name("ptm_dist").experiment_id])
    check([(point.step, point.value) for point in client.get_metric_history(found.info.run_id, "loss/mlm")])
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "run"
    assert found.data.params["optimizer.learning_rate"] == "0.003"
