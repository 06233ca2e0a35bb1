import base64
import hashlib
import http.client
import json
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from ptm_dist.cost import cost_of
from ptm_dist.errors import ConfigError
from ptm_dist.page import compare
from ptm_dist.page.curves import MOST_POINTS
from ptm_dist.page.html import HERE, SCRIPTS, as_json, page, policy
from ptm_dist.page.run import MOST_PHASES, data_of, page_of
from ptm_dist.page.server import HOST, THREADS, serve
from ptm_dist.page.settings import changed_yaml
from ptm_dist.recipe_io import load_recipe
from ptm_dist.report import load_run, summary
from ptm_dist.watched import Watched
from tests.tiny import STEPS, tiny_recipe
from tests.unit.test_status import T0, evaluated, make_run, started, steady, step_event, write

EVIL = "</script><script>hacked=1</script><img src=x onerror=hacked=1>\u2028-->"


def watched(path, *events, **changes):
    return Watched.open(make_run(path, events, **changes).path)


def data_in(text):
    """Return what a browser would read as the data of a page."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def test_whatever_the_data_hold_stays_data():
    text = page(EVIL, "run", {"name": EVIL})
    assert data_in(text) == {"name": EVIL}
    assert text.count("</script>") == 1 + len(SCRIPTS["run"]), "one of the data, the others of the page itself"
    assert "<img" not in text
    assert "hacked=1</script>" not in text
    assert not set("<>&\u2028") & set(as_json({"name": EVIL + "&<>"}))


def test_the_policy_names_each_style_and_script_of_the_page_and_nothing_else():
    text = page("a page", "compare", {})
    for tag in ("style", "script"):
        inside = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        allowed = set(re.search(rf"{tag}-src ([^;]+);", policy("compare"))[1].split())
        assert {f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'" for part in inside} == allowed
    assert f'content="{policy("compare")}"' in text
    assert policy("run").startswith("default-src 'none'; ")
    assert "connect-src" not in policy("run")
    assert "connect-src 'self'" in policy("run", live=True)


def test_a_page_loads_nothing(tmp_path):
    text = page_of(watched(tmp_path / "run", started(1, 0, T0), *steady(3)))
    assert not re.search(r"""(src|href|action|srcset)\s*=\s*["']?\s*(https?:)?//""", text)
    assert not re.search(r"""url\(\s*["']?\s*(https?:)?//|@import|<link[^>]+stylesheet""", text)
    assert "MIT License" in text, "the licence of uPlot goes where uPlot goes"


def test_what_is_inlined_is_what_was_published():
    """uPlot 1.6.32 as npm has it."""
    digests = {name: hashlib.sha256((HERE / name).read_bytes()).hexdigest() for name in ("uPlot.min.js", "uPlot.min.css")}
    assert digests == {
        "uPlot.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
        "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    }


def test_a_long_run_is_thinned(tmp_path):
    many = (step_event(1, n, T0 + n, loss=100.0 if n == 11_415 else 5.0) for n in range(20_000))
    run = watched(tmp_path / "run", started(1, 0, T0), *many)
    data = data_of(run)
    (curve,) = data["losses"]
    for found in (data["overview"][0], data["rate"], data["learning_rate"], data["gradient_norm"], curve):
        assert len(found["steps"]) == len(found["raw"]) <= MOST_POINTS
        assert found["steps"][-1] == 19_999
    assert 11_415 in data["overview"][0]["steps"], "the one peak is still there"
    assert len(data["phases"]["steps"]) == MOST_PHASES
    assert len(page_of(run)) < 600_000


def test_phases_that_were_told_are_stacked_with_the_rest(tmp_path):
    told = {"data": 0.1, "forward": 0.1, "backward": 0.2, "optimizer": 0.05, "communication": 0.03}
    events = [step_event(1, n, T0 + n, phases=told) for n in range(10)]
    phases = data_of(watched(tmp_path / "new", started(1, 0, T0), *events))["phases"]
    found = {name: column[0] for name, column in zip(phases["names"], phases["seconds"], strict=True)}
    assert found == {"forward": 0.1, "backward": 0.2, "optimizer": 0.05, "communication": 0.03, "data": 0.1, "rest": pytest.approx(0.02)}
    earlier = data_of(watched(tmp_path / "old", started(1, 0, T0), *steady(10)))["phases"]
    assert dict(zip(earlier["names"], (column[0] for column in earlier["seconds"]), strict=True)) == {"data": 0.1, "compute": 0.4}


def test_many_ranks_become_three_curves_and_the_slowest_is_named(tmp_path):
    few = {"event": "ranks", "attempt": 1, "time": T0, "step": 0, "steps": 1, "busy_seconds": [0.1, 0.3], "data_seconds": [0, 0]}
    many = few | {"step": 1, "busy_seconds": [0.1, 0.2, 0.9] + [0.3] * 61}
    ranks = data_of(watched(tmp_path / "few", started(1, 0, T0), *steady(2), few))["ranks"]
    assert (ranks["names"], ranks["seconds"], ranks["slowest"]) == (["rank 0", "rank 1"], [[0.1], [0.3]], "rank 1")
    ranks = data_of(watched(tmp_path / "many", started(1, 0, T0), *steady(2), few, many))["ranks"]
    assert ranks["names"] == ["least", "median", "greatest"]
    assert ranks["seconds"] == [[0.1, 0.1], [0.2, 0.3], [0.3, 0.9]]
    assert ranks["slowest"] == "rank 2"


def test_held_out_points_stand_beside_their_floor(tmp_path):
    measured = [evaluated(n, "mlm", "masked_lm", T0 + n, loss=7.0 - n / 10) for n in (0, 10)]
    curve = data_of(watched(tmp_path / "run", started(1, 0, T0), *steady(20), *measured))["losses"][0]
    assert curve["held_out"] == {"steps": [0, 10], "loss": [7.0, 6.0], "accuracy": [0.2, 0.2]}
    assert curve["floor"] == {"name": "unigram entropy", "loss": 7.0, "accuracy": None}


def test_the_figures_are_those_of_the_report(tmp_path):
    run = watched(tmp_path / "run", started(1, 0, T0), *steady(20), evaluated(0, "mlm", "masked_lm", T0))
    (run.folder.checkpoints / "step-000000000020").mkdir(parents=True)
    told = [[name, value] for name, value in summary(load_run(run.folder.path)) if not name.startswith("held-out")]
    assert data_of(run)["figures"] == told


def test_a_run_that_has_not_begun_has_a_page(tmp_path):
    data = data_in(page_of(watched(tmp_path / "run")))
    assert data["status"]["state"] == "new"
    assert data["attempts"] == []
    assert [stage["end"] for stage in data["stages"]] == [STEPS]


@pytest.mark.parametrize("recipe", ["ernie2.yaml", "bert.yaml", "xlnet.yaml"])
def test_what_differs_from_the_defaults_is_the_whole_recipe(tmp_path, recipe):
    whole = load_recipe([Path(__file__).parents[2] / "configs" / recipe])
    (tmp_path / "changed.yaml").write_text(changed_yaml(whole))
    assert load_recipe([tmp_path / "changed.yaml"]) == whole


def fetch(url, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as answer:
        return answer.status, answer.headers, answer.read().decode()


def wait_for_news(url, seen):
    for _ in range(200):
        answer = fetch(f"{url}data.json?seen={seen}")
        if answer[0] == 200:
            return answer
        time.sleep(0.05)
    raise TimeoutError(url)


def test_a_served_page_gives_news_only_when_there_are_some(tmp_path):
    run = watched(tmp_path / "run", started(1, 0, T0), *steady(3))
    with serve(run) as url:
        status, headers, text = fetch(url)
        shown = data_in(text)
        assert (status, shown["number"], shown["data"]["status"]["step"]) == (200, 1, 3)
        assert headers["Content-Security-Policy"].endswith("frame-ancestors 'none'")
        assert 'data-live="yes"' in text
        assert fetch(f"{url}data.json?seen=1")[0] == 204
        write(run.folder, *steady(4, 3, T0 + 3))
        status, _, text = wait_for_news(url, 1)
        assert (status, json.loads(text)["number"], json.loads(text)["data"]["status"]["step"]) == (200, 2, 7)
        assert fetch(f"{url}data.json?seen=nonsense")[0] == 200


def test_a_served_page_is_for_this_machine_and_its_own_name_alone(tmp_path):
    with serve(watched(tmp_path / "run", started(1, 0, T0), *steady(3))) as url:
        port = int(url.rstrip("/").rpartition(":")[2])
        listening = {line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if line.split()[3] == "0A"}
        assert {address for address in listening if address.endswith(f":{port:04X}")} == {f"0100007F:{port:04X}"}
        for path, host, code in (("", "evil.example", 403), ("", f"evil.example:{port}", 403), ("../etc/passwd", f"{HOST}:{port}", 404)):
            with pytest.raises(urllib.error.HTTPError) as error:
                fetch(url + path, Host=host)
            assert error.value.code == code
        assert fetch(url, Host=f"localhost:{port}")[0] == 200
        connection = http.client.HTTPConnection(HOST, port, timeout=20)
        connection.request("POST", "/")
        assert connection.getresponse().status == 501


def test_many_silent_visitors_do_not_make_many_threads(tmp_path):
    with serve(watched(tmp_path / "run", started(1, 0, T0), *steady(3))) as url:
        port = int(url.rstrip("/").rpartition(":")[2])
        visitors = [socket.create_connection((HOST, port)) for _ in range(3 * THREADS)]
        try:
            for visitor in visitors:
                visitor.sendall(b"GET / HT")
            names = [thread.name for thread in threading.enumerate() if thread.name.startswith("page_")]
            assert len(names) <= THREADS
        finally:
            for visitor in visitors:
                visitor.close()
        assert fetch(url)[0] == 200


def test_a_taken_port_is_a_named_error(tmp_path):
    run = watched(tmp_path / "run", started(1, 0, T0), *steady(3))
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"--port {port}: cannot listen"), serve(run, port):
            pass


def two_runs(tmp_path):
    """Return a run of 40 steps of 1,000 tokens in 0.5 s, and one of 20 steps of 3,000 tokens in 1 s."""
    slow = watched(
        tmp_path / "slow", started(1, 0, T0), *steady(40), *(evaluated(n, "mlm", "masked_lm", T0, loss=8 - n / 10) for n in (0, 30))
    )
    fast = [step_event(1, n, T0 + n, tokens=3000, seconds=1.0, loss=5.0) for n in range(20)]
    return [slow, watched(tmp_path / "fast", started(1, 0, T0), *fast, evaluated(10, "mlm", "masked_lm", T0, loss=5.5))]


@pytest.mark.parametrize(
    ("axis", "steps", "tokens", "held_out"),
    [
        ("steps", ["20", "20"], ["20,000", "60,000"], ["8.0000, 20.0% at step 0", "5.5000, 20.0% at step 10"]),
        ("tokens", ["40", "13"], ["40,000", "39,000"], ["5.0000, 20.0% at step 30", "5.5000, 20.0% at step 10"]),
        ("seconds", ["40", "20"], ["40,000", "60,000"], ["5.0000, 20.0% at step 30", "5.5000, 20.0% at step 10"]),
    ],
)
def test_runs_are_compared_where_both_have_been(tmp_path, axis, steps, tokens, held_out):
    found = compare.compared(two_runs(tmp_path), axis)
    assert found.heading == [f"at equal {axis}", "slow", "fast"]
    lines = {line[0]: line[1:] for line in found.lines}
    assert (lines["steps"], lines["tokens"], lines["held-out, mlm"]) == (steps, tokens, held_out)
    assert lines["training loss, mlm"][1] == "5.0000"
    assert lines["tokens/s"] == ["2,000", "3,000"]


def test_flops_of_a_whole_run_are_those_of_its_cost(tmp_path):
    recipe = tiny_recipe(tokenizer={"kind": "byte_bpe", "vocab_size": 384})
    run = watched(tmp_path / "run", started(1, 0, T0), *(step_event(1, n, T0, rows=16) for n in range(STEPS)))
    (course,) = compare.courses([run])
    assert course.reached["flops"][-1] == pytest.approx(cost_of(recipe).training_flops)


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path):
    runs = [watched(tmp_path / parent / "run", started(1, 0, T0), *steady(3)) for parent in ("a", "b")]
    assert [course.name for course in compare.courses(runs)] == [str(tmp_path / "a" / "run"), str(tmp_path / "b" / "run")]


def test_the_page_of_a_comparison_tells_what_differs(tmp_path):
    runs = [*two_runs(tmp_path), watched(tmp_path / "other", started(1, 0, T0), *steady(3), optimizer={"learning_rate": 1e-4})]
    data = data_in(compare.page_of(runs, "tokens"))
    assert data["axes"] == ["steps", "tokens", "seconds", "flops"]
    assert data["differences"] == [["optimizer.learning_rate", "0.003", "0.003", "0.0001"]]
    first = data["curves"][0]["runs"][1]
    assert first["x"]["tokens"][:2] == [3000, 6000]
    assert first["held_out"]["x"] == {"steps": [10], "tokens": [30000], "seconds": [10.0], "flops": first["held_out"]["x"]["flops"]}


def test_a_run_without_steps_cannot_be_compared(tmp_path):
    with pytest.raises(ConfigError, match="no step was done yet"):
        compare.compared([watched(tmp_path / "run")], "steps")


def test_unknown_flops_are_a_named_error(tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "outline", lambda recipe: None)
    with pytest.raises(ConfigError, match=r"--at flops: not known of .*slow"):
        compare.compared(two_runs(tmp_path), "flops")
    lines = compare.compared(two_runs(tmp_path), "steps").lines
    assert "flops" not in {line[0] for line in lines}
