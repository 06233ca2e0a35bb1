"""What the tests of monitoring share: promtool, and what rules and panels say."""

import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
import yaml

from ptm_dist.metrics import Exporter
from ptm_dist.metrics_table import TABLE
from tests.monitoring.told import DRIVER, WORKERS

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "launch" / "monitoring"
needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is missing: apt-get install prometheus")
needs_amtool = pytest.mark.skipif(not shutil.which("amtool"), reason="amtool is missing: apt-get install prometheus-alertmanager")

NAME = re.compile(r"(?<![\w:.$])(ptm_\w+|\w+:ptm_\w+(?::\w+)?)")
SELECTOR = re.compile(r"(ptm_\w+)\{([^}]*)\}")


def promtool(*words, text=None):
    return subprocess.run(["promtool", *map(str, words)], input=text, capture_output=True, text=True, timeout=60, check=False)


def groups():
    """Return the rules of all files, each with its expression."""
    files = [yaml.safe_load(path.read_text()) for path in sorted((MONITORING / "rules").glob("*.yml"))]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


def alerts():
    return {rule["alert"]: rule for rule in groups() if "alert" in rule}


def dashboards():
    return {path.stem: json.loads(path.read_text()) for path in sorted((MONITORING / "grafana" / "dashboards").glob("*.json"))}


def expressions(dashboard):
    """Return the expressions of panels, annotations and variables of a dashboard."""
    panels = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    variables = [variable["query"]["query"] for variable in dashboard["templating"]["list"] if variable["type"] == "query"]
    inner = [re.fullmatch(r"label_values\((.+), \w+\)", query)[1] for query in variables]
    return panels + [note["expr"] for note in dashboard["annotations"]["list"]] + inner


def names_in(expression):
    """Return the names of series in an expression, those of recording rules included."""
    return set(NAME.findall(re.sub(r'"[^"]*"', '""', expression)))


def labels_in(expression):
    """Return (metric, label) of each label that a selector names."""
    plain = re.sub(r'"[^"]*"', '""', expression)
    return {(name, label) for name, inner in SELECTOR.findall(plain) for label in re.findall(r"(\w+)\s*[=!]", inner)}


@cache
def scraped():
    """Return the text that each role shows for a whole run."""
    texts = {}
    for role, events in (("run", WORKERS), ("node", WORKERS), ("driver", DRIVER + WORKERS)):
        exporter = Exporter("run", 2, role, node="far", folder=ROOT if role == "driver" else None)
        for event in events:
            exporter.observe(event)
        texts[role] = exporter.text().decode()
    return texts


def exported_names():
    """Return the names of all series, those of histograms too, that a scrape really shows."""
    return {line.split("{")[0].split(" ")[0] for text in scraped().values() for line in text.splitlines() if not line.startswith("#")}


def labels_of(name):
    """Return the labels that series of a metric have, and what Prometheus adds."""
    base = re.sub(r"_(bucket|sum|count)$", "", name)
    found = next(metric for metric in TABLE if metric.name in (name, base))
    return {*found.all_labels, "le", "job", "instance"}
