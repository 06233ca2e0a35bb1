"""Dashboards: valid queries of metrics that exist, and nothing that binds them to one Grafana."""

import re

import pytest
import yaml

from tests.monitoring.promtool import (
    MONITORING,
    dashboards,
    exported_names,
    expressions,
    labels_in,
    labels_of,
    names_in,
    needs_promtool,
    promtool,
)

VARIABLES = {"$__rate_interval": "1m", "$__interval": "1m", "$__range": "1h"}
each = pytest.mark.parametrize("name", sorted(dashboards()))


def plain(expression, dashboard):
    """Return an expression as Grafana sends it."""
    known = VARIABLES | {f"${variable['name']}": ".*" for variable in dashboard["templating"]["list"]}
    return re.sub(r"\$\w+", lambda found: known[found[0]], expression)


@needs_promtool
@each
def test_prometheus_understands_every_expression(name, tmp_path):
    dashboard = dashboards()[name]
    rules = [{"record": f"x{number}", "expr": plain(expr, dashboard)} for number, expr in enumerate(expressions(dashboard))]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    found = promtool("check", "rules", tmp_path / "rules.yml")
    assert found.returncode == 0, found.stdout + found.stderr


@each
def test_every_metric_in_a_panel_is_exported(name):
    for expression in expressions(dashboards()[name]):
        assert names_in(expression) <= exported_names(), expression
        for metric, label in labels_in(expression):
            assert label in labels_of(metric), expression


@each
def test_legends_name_labels_that_the_expression_keeps(name):
    for panel in dashboards()[name]["panels"]:
        for target in panel.get("targets", []):
            kept = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", target["expr"]))))
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= kept, panel["title"]


@each
def test_panels_have_own_numbers_do_not_overlap_and_ask_the_chosen_prometheus(name):
    dashboard = dashboards()[name]
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(numbers) == len(set(numbers))
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in dashboard["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    sources = re.findall(r'"uid": "([^"]*)"', str(dashboard).replace("'", '"'))
    assert set(sources) == {"${datasource}", dashboard["uid"]}
    assert next(v for v in dashboard["templating"]["list"] if v["name"] == "datasource")["type"] == "datasource"


def test_dashboards_are_told_apart_and_link_to_each_other():
    found = dashboards()
    assert found.keys() == {"run", "fleet"}
    assert {dashboard["uid"] for dashboard in found.values()} == {"ptm-run", "ptm-fleet"}
    assert "/d/ptm-run?var-run=" in str(found["fleet"])
    assert "/d/ptm-fleet" in str(found["run"])
    assert {v["name"] for v in found["run"]["templating"]["list"]} == {"datasource", "run", "attempt"}
    assert all(any("ptm_run_attempt_start" in note["expr"] for note in d["annotations"]["list"]) for d in found.values()), "restarts"


def test_grafana_is_told_where_they_are():
    folder = MONITORING / "grafana" / "provisioning"
    [source] = yaml.safe_load((folder / "datasources" / "prometheus.yaml").read_text())["datasources"]
    [provider] = yaml.safe_load((folder / "dashboards" / "ptm.yaml").read_text())["providers"]
    assert (source["type"], source["url"]) == ("prometheus", "$PROMETHEUS_URL")
    interval = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == interval
    assert provider["type"] == "file"
