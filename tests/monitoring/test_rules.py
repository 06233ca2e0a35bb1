"""The rules say what they should, of metrics that exist, and every alert has a case where it fires, one where it does not, and advice."""

import re

import pytest
import yaml

from tests.monitoring.metrics_page import page
from tests.monitoring.promtool import (
    MONITORING,
    ROOT,
    alerts,
    exported_names,
    groups,
    labels_in,
    labels_of,
    names_in,
    needs_amtool,
    needs_promtool,
    promtool,
    scraped,
)

CASES = {path: yaml.safe_load(path.read_text()) for path in sorted(MONITORING.glob("rules_test*.yml"))}


@needs_promtool
def test_prometheus_accepts_the_configuration_and_the_rules():
    found = promtool("check", "config", MONITORING / "prometheus.yml")
    assert found.returncode == 0, found.stdout + found.stderr
    assert "2 rule files found" in found.stdout
    assert promtool("check", "rules", *sorted((MONITORING / "rules").glob("*.yml"))).returncode == 0


@needs_amtool
def test_alertmanager_accepts_its_configuration():
    import subprocess

    found = subprocess.run(["amtool", "check-config", MONITORING / "alertmanager.yml"], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_alerts_of_the_configuration_exist():
    configuration = yaml.safe_load((MONITORING / "alertmanager.yml").read_text())
    matchers = " ".join(word for rule in configuration["inhibit_rules"] for side in rule.values() for word in side)
    assert set(re.findall(r"Ptm\w+", matchers)) <= alerts().keys()


@needs_promtool
def test_alerts_fire_when_they_should_and_only_then():
    found = promtool("test", "rules", *CASES)
    assert found.returncode == 0, found.stdout + found.stderr


@needs_promtool
def test_every_alert_has_a_case_that_notices_when_it_never_fires(tmp_path):
    rules = yaml.safe_load((MONITORING / "rules" / "alerts.yml").read_text())
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        rule["expr"] = f"({rule['expr']}) and vector(0) == 1"
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(rules))
    (tmp_path / "recording.yml").write_text((MONITORING / "rules" / "recording.yml").read_text())
    for path, cases in CASES.items():
        (tmp_path / path.name).write_text(yaml.safe_dump(cases | {"rule_files": ["recording.yml", "alerts.yml"]}))
    found = promtool("test", "rules", *(tmp_path / path.name for path in CASES))
    assert set(re.findall(r"alertname: (\w+)", found.stdout + found.stderr)) == alerts().keys()


@pytest.mark.parametrize("alert", sorted(alerts()))
def test_an_alert_has_a_case_where_other_runs_leave_it_silent(alert):
    """Each case names the runs that fire; what it holds besides, or does not fire yet, is the silence."""
    asked = [
        (case, test) for file in CASES.values() for case in file["tests"] for test in case["alert_rule_test"] if test["alertname"] == alert
    ]
    fires = [test for _, test in asked if test["exp_alerts"]]
    silent = [test for _, test in asked if not test["exp_alerts"]]
    others = [
        set(re.findall(r'run="(\w+)"', " ".join(series["series"] for series in case["input_series"])))
        - {found["exp_labels"]["run"] for found in test["exp_alerts"]}
        for case, test in asked
    ]
    assert fires
    assert silent or any(others)


@pytest.mark.parametrize("alert", sorted(alerts()))
def test_an_alert_is_told_with_its_weight_and_links_to_what_to_do(alert):
    rule = alerts()[alert]
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert "$labels.run" in rule["annotations"]["summary"]
    assert rule["annotations"]["description"].endswith(f"See docs/alerts.md#{alert.lower()}")
    section = re.search(rf"^## {alert}\n(.+?)(?=^## |\Z)", (ROOT / "docs" / "alerts.md").read_text(), re.DOTALL | re.MULTILINE)
    assert section, f"docs/alerts.md has no section {alert}"
    assert "**Means**" in section[1]
    assert "**Do**" in section[1]


def test_the_runbook_knows_no_alert_that_is_gone():
    assert set(re.findall(r"^## (Ptm\w+)", (ROOT / "docs" / "alerts.md").read_text(), re.MULTILINE)) == alerts().keys()


def test_every_metric_in_a_rule_is_exported_with_the_labels_that_the_rule_wants():
    recorded = {rule["record"] for rule in groups() if "record" in rule}
    told = exported_names()
    for rule in groups():
        names = names_in(rule["expr"])
        assert names - recorded <= told, rule
        for name, label in labels_in(rule["expr"]):
            assert label in labels_of(name), (name, label)
    used = set().union(*(names_in(rule["expr"]) for rule in groups()))
    assert {"run:ptm_silence_allowed:seconds", "ptm_train_step_seconds_sum", "ptm_rank_info"} <= used, "the names are found at all"


@needs_promtool
@pytest.mark.parametrize("role", ["run", "node", "driver"])
def test_promtool_finds_nothing_to_blame_in_a_scrape(role):
    found = promtool("check", "metrics", text=scraped()[role])
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout + found.stderr == ""


def test_the_page_of_metrics_is_that_of_the_table():
    written = (ROOT / "docs" / "metrics.md").read_text()
    assert written == page(), "write it anew: python -m tests.monitoring.metrics_page > docs/metrics.md"


def test_pages_name_no_metric_that_is_gone():
    names = {name for page in (ROOT / "docs").glob("*.md") for name in re.findall(r"\bptm_[a-z_]+[a-z]\b(?!\*|\.)", page.read_text())}
    known = exported_names() | {name.removesuffix("_bucket") for name in exported_names()}
    assert {name for name in names if name.split("_")[1] not in ("dist", "evaluate", "faults")} <= known
