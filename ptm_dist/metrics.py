"""Serves the metrics of one attempt, of a node, or of a whole run, as Prometheus reads them."""

from __future__ import annotations

import json
import math
import shutil
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from ptm_dist.errors import ConfigError
from ptm_dist.events import Tail
from ptm_dist.goodput import Goodput, ratio
from ptm_dist.metrics_events import Unfolding
from ptm_dist.metrics_http import Page, PageServer
from ptm_dist.metrics_table import OTHER, STEP_BUCKETS, TABLE, Metric

Event = dict[str, Any]
Role = Literal["run", "node", "driver"]
Family = Counter | Gauge | Histogram

FRESH_SECONDS: Final = 1.0
"""A page so old is still given while no event came, so that a crowd of clients costs training little."""
AT_REST: Final = frozenset("TtZXx")
"""States of a process that does nothing and will not by itself: stopped, traced, ended."""


def exported(role: Role) -> list[Metric]:
    """Return the metrics that an exporter of this role has."""
    scopes = {"run": ("run", "rank"), "node": ("rank",), "driver": ("driver",)}[role]
    return [metric for metric in TABLE if metric.scope in scopes or (role == "driver" and metric.name == "ptm_rank_up")]


class Exporter:
    """Holds the metrics of one attempt and serves them on one port.

    Roles: "run" is that of rank 0, which sees every event of the workers. "node" is that of the first rank of each further node, with
    nothing but the ranks of `node`; it wants `attempt_started` and `ranks`. "driver" outlives attempts and wants the events of both
    logs; with a `folder` it reads them there by itself, from the first attempt on, and lists at /sd what Prometheus can scrape.
    """

    def __init__(self, run: str, attempt: int, role: Role = "run", *, node: str = "", folder: Path | None = None) -> None:
        disable_created_metrics()  # Of the whole process; they double the series and nothing reads them.
        self.registry = CollectorRegistry()
        self._role: Role = role
        self._node, self._folder = node, folder
        self._common = {"run": run, "attempt": str(attempt)}
        self._unfold, self._ranks, self._goodput = Unfolding(), _Ranks(), Goodput()
        self._logs = [Tail(folder / name) for name in ("supervision.jsonl", "events.jsonl")] if folder else []
        self._reading, self._page, self._made_at = threading.Lock(), b"", -math.inf
        self._server: PageServer | None = None
        self._current: int | None = None
        """The attempt that runs, as far as a driver knows."""
        self._families: dict[str, Family] = {}
        self._following: dict[str, list[Metric]] = defaultdict(list)
        for metric in exported(role):
            self._add(metric)
        self._catch_up()

    def observe(self, event: Event) -> None:
        """Update every metric that follows this kind of event; missing and undefined values leave it as it was."""
        if event["event"] == "attempt_started":
            self._see_ranks(event)
        elif event["event"] in ("attempt_placed", "attempt_ended"):
            self._current = event.get("attempt") if event["event"] == "attempt_placed" else None
            self._ranks = _Ranks()
            self._forget("rank_placed", "rank_seen")
        elif event["event"] == "nodes_checked":
            self._forget("node_checked")  # Nodes of before may not be there any more.
        if self._role == "driver":
            self._goodput.observe(event)
        for told in self._unfold(event):
            self._take(told)
        self._made_at = -math.inf

    def text(self) -> bytes:
        """Return what a scrape shows."""
        with self._reading:
            self._catch_up()
            if time.monotonic() - self._made_at > FRESH_SECONDS:
                # The time is taken first: an event that comes meanwhile makes this page old at once.
                self._made_at = time.monotonic()
                for told in self._look():
                    self._take(told)
                self._page = generate_latest(self.registry)
            return self._page

    def serve(self, host: str, port: int) -> str:
        """Serve /metrics from a thread and return its URL; port 0 takes a free one.

        Raises:
            ConfigError: the port is taken or the interface does not exist.

        """
        pages: dict[str, Page] = {"/metrics": lambda: (CONTENT_TYPE_PLAIN_0_0_4, self.text())}
        if self._folder:
            pages["/sd"] = self._targets
        try:
            self._server = PageServer(pages, host, port)
        except OSError as error:
            raise ConfigError(
                f"metrics.port: cannot listen on {host}:{port} ({error.strerror or error}). Set metrics.port=0 to take a free one."
            ) from error
        return self._server.url("/metrics")

    def close(self) -> None:
        """Stop serving."""
        if self._server:
            self._server.close()
            self._server = None

    def _add(self, metric: Metric) -> None:
        family: Family
        if metric.type == "counter":
            family = Counter(metric.name, metric.help, metric.all_labels, registry=self.registry)
        elif metric.type == "gauge":
            family = Gauge(metric.name, metric.help, metric.all_labels, registry=self.registry)
        else:
            family = Histogram(metric.name, metric.help, metric.all_labels, registry=self.registry, buckets=STEP_BUCKETS)
        self._families[metric.name] = family
        for event in (metric.events,) if isinstance(metric.events, str) else metric.events:
            self._following[event].append(metric)
        # Counters are shown from 0 on, so that no first event is missed by a rate; a gauge that nobody has set would be a lie.
        if metric.type != "gauge" and metric.scope != "rank":
            for word in metric.words if metric.labels else ("",):
                family.labels(**self._labels(metric, dict.fromkeys(metric.labels, word)))

    def _labels(self, metric: Metric, told: Event) -> dict[str, str]:
        found = {name: self._common.get(name, told.get(name, "")) for name in metric.all_labels}
        if metric.words and found[metric.labels[0]] not in metric.words:
            found[metric.labels[0]] = OTHER
        return {name: str(value) for name, value in found.items()}

    def _take(self, told: Event) -> None:
        if not self._ranks.is_mine(told):
            return
        for metric in self._following.get(told["event"], ()):
            value = metric.read(told)
            if not isinstance(value, int | float) or not math.isfinite(value):
                continue
            child = self._families[metric.name].labels(**self._labels(metric, told))
            if isinstance(child, Counter):
                child.inc(max(0.0, value))
            elif isinstance(child, Gauge):
                child.set(value)
            else:
                child.observe(value)

    def _see_ranks(self, event: Event) -> None:
        here = self._node
        ranks = event.get("ranks") or []
        if self._role == "driver":
            if event.get("attempt") != self._current:
                return  # A log that is read anew tells of attempts that are long over.
            self._common["attempt"], here = str(self._current), socket.gethostname()
        elif self._role == "run" and ranks:
            here = str(ranks[0].get("node", ""))
        self._ranks = _Ranks(ranks, here, alone=self._role == "run")

    def _forget(self, *events: str) -> None:
        for event in events:
            for metric in self._following.get(event, ()):
                self._families[metric.name].clear()

    def _catch_up(self) -> None:
        for log in self._logs:
            for event in log.read():
                self.observe(event)

    def _look(self) -> Iterator[Event]:
        """Yield what is read off the machine and the clock, in the form of events."""
        yield from self._ranks.look()
        if self._role == "driver":
            seconds = self._goodput.seconds(time.time())
            for name, spent in seconds.items():
                yield {"event": "time_seen", "class": name, "seconds": spent}
            yield {"event": "goodput_seen", "ratio": ratio(seconds)}
        if self._folder:
            disk = shutil.disk_usage(self._folder)
            yield {"event": "disk_seen", "free": disk.free, "size": disk.total}

    def _targets(self) -> tuple[str, bytes] | None:
        path = (self._folder or Path()) / "monitoring" / "targets.json"
        text = path.read_bytes() if path.exists() else b"[]"
        try:
            json.loads(text)
        except ValueError:
            return None  # Prometheus keeps the list that it has.
        return "application/json", text


class _Ranks:
    """The ranks that an exporter speaks for, and the processes among them that it can see."""

    def __init__(self, ranks: list[Event] | None = None, here: str = "", alone: bool = True) -> None:
        served = {rank.get("node") for rank in ranks or [] if rank.get("metrics")} - {here}
        self._others = {rank["rank"] for rank in ranks or [] if rank.get("node") != here and (not alone or rank.get("node") in served)}
        known = [(rank, _process(rank.get("pid"))) for rank in ranks or [] if rank.get("node") == here]
        self._seen = [(rank, began) for rank, (state, began) in known if state]

    def is_mine(self, told: Event) -> bool:
        """Is this about one of these ranks, or about no rank?"""
        return told.get("rank") not in self._others

    def look(self) -> Iterator[Event]:
        """Yield of each rank on this machine whether its process runs."""
        if not Path("/proc/self/stat").exists():
            return
        for rank, began in self._seen:
            state, since = _process(rank["pid"])
            up = state not in AT_REST and since == began
            yield {"event": "rank_seen", "rank": rank["rank"], "node": rank.get("node", ""), "up": up}


def _process(pid: Any) -> tuple[str, str]:
    """Return the state of a process and when it began, empty where there is none."""
    try:
        fields = Path(f"/proc/{int(pid)}/stat").read_text(encoding="utf8", errors="replace").rpartition(")")[2].split()
    except (OSError, ValueError):
        return "", ""
    return fields[0], fields[19]
