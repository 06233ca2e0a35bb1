"""Writes docs/metrics.md from the table of metrics: python -m tests.monitoring.metrics_page > docs/metrics.md"""

from ptm_dist.goodput import CLASSES
from ptm_dist.metrics_table import BY_WORD, COMMON, PHASES, RANKS, RUN, RUN_BY_WORD, TABLE

HEAD = """# Metrics

Made from `ptm_dist/metrics_table.py` by `python -m tests.monitoring.metrics_page > docs/metrics.md`.

Metrics follow the event log, so both say the same. Three kinds of process serve them, at `/metrics` of an address that
`RUN/monitoring/targets.json` lists:

| who | tells |
| --- | --- |
| rank 0 | the attempt, and the ranks of its own node |
| the first rank of each further node | the ranks of that node |
| the driver | the run over all its attempts; at `/sd` it lists the others for Prometheus (`http_sd`) |

Counters of an attempt begin at 0 with each attempt; `rate` and `increase` cope. What has to outlive attempts is told by the driver
and has no label `attempt`. Scrape with `honor_labels: true` (in a PodMonitor `honorLabels: true`): the series say themselves where they
are from. Alerts, dashboards and configuration are in `launch/monitoring`, what to do about an alert in [alerts.md](alerts.md).
"""

SECTIONS = {
    "Of an attempt": [metric for metric in TABLE if metric.scope == "run"],
    "Of a rank": list(RANKS),
    "Of a run": [*RUN, *RUN_BY_WORD],
}

WORDS = {"phase": PHASES, "class": tuple(CLASSES), **{label: words for label, words in BY_WORD.values() if words}}


def page():
    """Return the text of docs/metrics.md."""
    lines = [HEAD]
    for title, metrics in SECTIONS.items():
        common = ", ".join(f"`{name}`" for name in COMMON[metrics[0].scope])
        lines += [
            f"## {title}",
            "",
            f"All have the labels {common}.",
            "",
            "| metric | type | meaning | further labels |",
            "| --- | --- | --- | --- |",
        ]
        lines += [f"| `{m.name}` | {m.type} | {m.help} | {', '.join(f'`{name}`' for name in m.labels)} |" for m in metrics]
        lines.append("")
    lines += ["## Values of labels", "", "| label | values |", "| --- | --- |"]
    lines += [f"| `{label}` | {', '.join(words)} |" for label, words in WORDS.items()]
    lines += ["", "## Classes of goodput", "", "| class | time |", "| --- | --- |"]
    lines += [f"| {name} | {meaning} |" for name, meaning in CLASSES.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
