"""MLflow: a run at the tracking server that the settings name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator

from ptm_dist.trackers.base import Tracker, TrackerSettings, imported, note, noted, reached, settings_of

if TYPE_CHECKING:
    from ptm_dist.run import RunFolder

MOST_PARAMETERS, LONGEST_PARAMETER = 100, 500
"""That MLflow takes at once, and characters of one."""
RUNNING: Final = "RUNNING"


def _without_password(uri: str) -> str:
    if urlsplit(uri).password:
        raise ValueError(
            "holds a password, and recipes are kept with their runs; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    return uri


class MLflow(TrackerSettings):
    """One run of MLflow over all attempts. Passwords and tokens come from MLFLOW_TRACKING_*, never from a recipe."""

    kind: Literal["mlflow"] = "mlflow"
    tracking_uri: Annotated[str, AfterValidator(_without_password)]
    """https://server, or what else MLflow can open."""
    experiment: str = "ptm_dist"

    def open(self, run: RunFolder) -> Tracker:
        """Return a tracker."""
        return _Run(run, self, imported("mlflow", self.kind))


class _Run(Tracker):
    """MLflow can neither change nor remove a point, so what comes again is passed over."""

    kind: ClassVar[str] = "mlflow"

    def __init__(self, run: RunFolder, settings: MLflow, mlflow: Any) -> None:
        super().__init__(run, settings.every_steps)
        self._settings, self._library, self._id = settings, mlflow, ""

    def begin(self, attempt: int, start: int) -> None:
        self._client = self._library.MlflowClient(tracking_uri=self._settings.tracking_uri)
        place = f"mlflow {self._settings.tracking_uri}"
        self._id = noted(self.run, place).get("id", "")
        if self._id:
            self.reached = reached(self.run, attempt)
            self._client.update_run(self._id, status=RUNNING)
        else:
            self._id = self._new_run()
            note(self.run, place, id=self._id)

    def _new_run(self) -> str:
        name = self._settings.experiment
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        made = self._client.create_run(experiment, run_name=self.run.path.name).info.run_id
        parameters = [
            self._library.entities.Param(key, str(value)[:LONGEST_PARAMETER]) for key, value in _leaves("", settings_of(self.run))
        ]
        for first in range(0, len(parameters), MOST_PARAMETERS):
            self._client.log_batch(made, params=parameters[first : first + MOST_PARAMETERS])
        return made

    def write(self, done: int, values: Mapping[str, float], time: float) -> None:
        metric, milliseconds = self._library.entities.Metric, int(time * 1000)
        self._client.log_batch(self._id, metrics=[metric(name, value, milliseconds, done) for name, value in values.items()])

    def close(self) -> None:
        if self._id:
            self._client.set_terminated(self._id, status="FINISHED" if self.succeeded else "KILLED")


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list) and value:
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(f"{key}.{name}" if key else str(name), item)
    else:
        yield key, value
