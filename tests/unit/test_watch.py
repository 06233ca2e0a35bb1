import io
import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import fsspec
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from ptm_dist import watched
from ptm_dist.cli import flat, watch
from ptm_dist.errors import ConfigError
from ptm_dist.status import Status
from tests.unit.test_status import T0, make_run, started, steady, step_event, write

DOCS = Path(__file__).parents[2] / "docs" / "watching.md"
FINISHED = {"event": "attempt_finished", "attempt": 1, "time": T0 + 40, "step": 40}

app = typer.Typer()
for verb in (flat.status, flat.history, flat.report, flat.compare):
    app.command()(verb)


def call(*words):
    return CliRunner().invoke(app, list(map(str, words)))


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run", [started(1, 0, T0), *steady(40), FINISHED])


def test_one_line_a_run(tmp_path, run):
    other = make_run(tmp_path / "other")
    assert call("status", run.path, other.path).stdout.splitlines() == [
        f"run {run.path}: new, 40 steps; last step 39, loss 7.6100",
        f"run {other.path}: new, 40 steps",
    ]


def test_all_figures_once(run):
    told = dict(line.split(maxsplit=1) for line in call("status", run.path, "--once").stdout.splitlines() if " " in line)
    assert told["state"] == "finished, attempt 1"
    assert told["step"] == "40 of 40"
    assert told["tokens/s"] == "2,000 now, 2,000 on average"


def test_json_is_one_object_a_run_with_every_key_that_is_documented(tmp_path, run):
    lines = call("status", run.path, make_run(tmp_path / "other").path, "--json").stdout.splitlines()
    one, other = map(json.loads, lines)
    assert one.keys() == other.keys() == Status.__dataclass_fields__.keys()
    assert (one["step"], one["state"], other["state"]) == (40, "finished", "new")
    documented = re.findall(r"^\| `([a-z_`, ]+)` \|", DOCS.read_text(), re.MULTILINE)
    assert {key for line in documented for key in line.replace("`", "").split(", ")} == one.keys()


def test_no_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "no runs here yet" in call("status").stdout
    assert call("status", "--json").stdout == ""


@pytest.mark.parametrize(("end", "code"), [(FINISHED, 0), (None, 60), (41, 41)])
def test_watching_for_the_end_exits_with_its_code(tmp_path, end, code):
    run = make_run(tmp_path / "run", [started(1, 0, T0), *steady(3), *([end] if isinstance(end, dict) else [])])
    if isinstance(end, int):
        run.logs(1).mkdir(parents=True)
        (run.logs(1) / "rank-0.error.json").write_text(json.dumps({"exit_code": end, "message": "the disk is full"}))
    found = call("status", run.path, "--watch-exit")
    assert found.exit_code == code
    assert found.stdout.startswith(f"run {run.path}: ")
    assert ("the disk is full" in found.stdout) is (code == 41)


def test_watching_waits_for_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.05)
    run = make_run(tmp_path / "run", [started(1, 0, T0), *steady(3)])
    holder = "import json, sys\nfrom ptm_dist.locks import locked\nfrom pathlib import Path\nrun = Path(sys.argv[1])\n"
    holder += "with locked(run, 'driver', 0):\n    print('held', flush=True)\n    sys.stdin.readline()\n"
    holder += "    open(run / 'events.jsonl', 'a').write(sys.argv[2] + '\\n')\n"
    words = [sys.executable, "-c", holder, str(run.path), json.dumps(FINISHED)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        looked = []

        def pause(_):
            looked.append(process.poll())
            if len(looked) == 3:
                process.stdin.write("\n")
                process.stdin.flush()
                process.wait()

        monkeypatch.setattr(watch.time, "sleep", pause)
        assert call("status", run.path, "--watch-exit").exit_code == 0
    assert looked == [None, None, None]


def test_a_run_that_nobody_began_has_no_end_to_wait_for(tmp_path):
    run = make_run(tmp_path / "run")
    with pytest.raises(ConfigError, match="has not begun"):
        raise call("status", run.path, "--watch-exit").exception
    with pytest.raises(ConfigError, match="waits for one run"):
        raise call("status", run.path, run.path, "--watch-exit").exception


def test_history_has_a_line_an_attempt_and_a_sum(tmp_path):
    again = [started(2, 32, T0 + 50), *steady(8, 32, T0 + 50, 2), FINISHED | {"attempt": 2, "time": T0 + 60}]
    run = make_run(tmp_path / "run", [started(1, 0, T0), *steady(40), *again])
    lines = call("history", run.path).stdout.splitlines()
    assert len(lines) == 4
    assert re.fullmatch(r" +1  1970-01-1\d \d\d:\d\d +40 s  2 of 2   0 to 40 +killed +8 +0\.02", lines[1])
    assert re.fullmatch(r" +sum +50 s +40 +1 killed, 1 finished +8 +0\.03", lines[3])
    found = json.loads(call("history", run.path, "--json").stdout)
    assert [attempt["cause"] for attempt in found["attempts"]] == ["killed", "finished"]
    assert found["sum"]["lost_steps"] == 8
    assert json.loads(call("history", run.path, "--json", "--since", "1h").stdout)["attempts"] == []


def test_a_report_is_written_into_the_run_or_where_it_is_wanted(tmp_path, run):
    assert "report.html" in call("report", run.path).stdout
    assert (run.path / "report.html").read_text().startswith("<!doctype html>")
    call("report", run.path, "--html", tmp_path / "there.html")
    assert (tmp_path / "there.html").exists()


def test_a_comparison_is_printed_and_written(tmp_path, run):
    other = make_run(tmp_path / "other", [started(1, 0, T0), *(step_event(1, n, T0 + n, loss=5.0) for n in range(20))])
    found = call("compare", run.path, other.path, "--at", "tokens", "--html", tmp_path / "both.html").stdout
    assert re.search(r"^at equal tokens +run +other$", found, re.MULTILINE)
    assert re.search(r"^steps +20 +20$", found, re.MULTILINE)
    assert (tmp_path / "both.html").exists()
    with pytest.raises(ConfigError, match="name two runs"):
        raise call("compare", run.path).exception


class Pauses:
    """Stands in for the time between two looks: what happens in each of them."""

    def __init__(self, *steps):
        self.steps = list(steps)

    def __call__(self, _):
        self.steps.pop(0)()


def stop():
    raise KeyboardInterrupt


def show_live(monkeypatch, path, *steps):
    screen = io.StringIO()
    monkeypatch.setattr(watch, "out", Console(file=screen, force_terminal=True, width=100, height=60, color_system=None))
    monkeypatch.setattr(watch.time, "sleep", Pauses(*steps))
    monkeypatch.setattr(watched, "is_held", lambda folder: not (folder.path / "ended").exists())
    watch.status([path], once=False, as_json=False, watch_exit=False)
    return screen.getvalue()


def test_a_terminal_follows_a_run_to_its_end(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run", [started(1, 0, T0), *steady(10)])
    shown = show_live(
        monkeypatch,
        run.path,
        lambda: write(run, *steady(10, 10, T0 + 10)),
        lambda: write(run, *steady(20, 20, T0 + 20), FINISHED),
        (run.path / "ended").touch,
    )
    assert [step for step in ("step 10 of 40", "step 20 of 40", "step 40 of 40") if step in shown] == [
        "step 10 of 40",
        "step 20 of 40",
        "step 40 of 40",
    ]
    assert "finished" in shown.rpartition("step 40 of 40")[0].rpartition("\n")[0]


def test_ctrl_c_ends_the_view_and_not_the_run(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run", [started(1, 0, T0), *steady(10)])
    assert "step 10 of 40" in show_live(monkeypatch, run.path, stop)
    assert not run.stop_path.exists()


def test_a_report_is_served_until_ctrl_c(tmp_path, monkeypatch, run):
    monkeypatch.setattr(watch.time, "sleep", Pauses(stop))
    found = call("report", run.path, "--watch")
    assert found.exit_code == 0
    url = re.search(r"http://127\.0\.0\.1:(\d+)/", found.stdout)
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url[0], timeout=5)
    assert not (run.path / "report.html").exists()


@pytest.fixture
def copied(run, tmp_path):
    """The address of a copy of the run in an object store."""
    url = f"memory://bucket/{tmp_path.name}/run"
    fsspec.filesystem("memory").put(str(run.path), url, recursive=True)
    return url


def test_a_copy_in_an_object_store_is_reported_under_its_own_address(copied, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = call("report", copied)
    assert told.exit_code == 0, told.exception
    assert f"event log      {copied}/events.jsonl" in told.stdout
    assert (tmp_path / "run.html").stat().st_size > 50_000
    assert "ptm-run-" not in told.stdout + (tmp_path / "run.html").read_text()
    assert json.loads(call("history", copied, "--json").stdout)["run"] == copied
    with pytest.raises(ConfigError, match=r"--watch: memory://.*/run is in an object store"):
        raise call("report", copied, "--watch").exception


def test_a_run_is_compared_with_a_copy_of_another(run, copied):
    heading, *lines = call("compare", run.path, copied, "--at", "tokens").stdout.splitlines()
    assert heading.startswith("at equal tokens")
    assert all(line.split()[-1] == line.split()[-2] for line in lines if not line.startswith("held-out"))


def test_what_is_neither_a_run_nor_a_job_is_told_so():
    for verb in ("history", "report", "compare"):
        with pytest.raises(ConfigError, match="nowhere: there is no run and no job of this name"):
            raise call(verb, "nowhere").exception
