"""Metrics are served on one port, to a few clients at a time, and an exporter that cannot serve says so."""

import json
import socket
import threading
import urllib.error
import urllib.request
from collections import Counter

import pytest

from ptm_dist.errors import ConfigError
from ptm_dist.metrics import Exporter
from ptm_dist.metrics_http import MOST_AT_ONCE
from tests.monitoring.told import WORKERS


def get(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read().decode()


def refused(url, **request):
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(urllib.request.Request(url, **request), timeout=5)
    return caught.value


@pytest.fixture
def serving():
    """Serve an exporter and stop it in the end."""
    with_servers = []

    def serve(exporter):
        with_servers.append(exporter)
        return exporter.serve("127.0.0.1", 0)

    yield serve
    for exporter in with_servers:
        exporter.close()


def test_the_driver_lists_what_can_be_scraped(tmp_path, serving):
    exporter = Exporter("run", 0, "driver", folder=tmp_path)
    url = serving(exporter).replace("/metrics", "/sd")
    assert json.loads(get(url)) == []
    targets = [{"targets": ["10.0.0.1:9100"], "labels": {"run": "run", "attempt": "2", "node": "a", "role": "worker"}}]
    (tmp_path / "monitoring").mkdir()
    (tmp_path / "monitoring" / "targets.json").write_text(json.dumps(targets))
    with urllib.request.urlopen(url, timeout=5) as answer:
        assert answer.headers["Content-Type"] == "application/json"
        assert json.load(answer) == targets
    (tmp_path / "monitoring" / "targets.json").write_text("[{")
    assert refused(url).code == 503, "half a file is no reason to forget the targets"


def test_other_paths_and_methods_are_refused(serving):
    url = serving(Exporter("run", 1))
    assert refused(url.replace("/metrics", "/sd")).code == 404, "of drivers only"
    assert refused(url.replace("/metrics", "/../etc/passwd")).code == 404
    assert "text/plain; version=0.0.4" in urllib.request.urlopen(url + "?name=x", timeout=5).headers["Content-Type"]
    for method in ("POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"):
        answer = refused(url, method=method, data=b"x" if method == "POST" else None)
        assert (answer.code, answer.headers["Allow"]) == (405, "GET")


def test_a_crowd_is_answered_a_few_at_a_time_and_clients_that_say_nothing_do_not_block_it(serving):
    exporter = Exporter("run", 2)
    for event in WORKERS:
        exporter.observe(event)
    url = serving(exporter)
    host, port = url.removeprefix("http://").removesuffix("/metrics").split(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(MOST_AT_ONCE - 1)]
    codes, most = Counter(), []

    def scrape():
        codes['run="run"' in get(url)] += 1
        most.append(sum(thread.name.startswith("Thread") and "process_request_thread" in thread.name for thread in threading.enumerate()))

    crowd = [threading.Thread(target=scrape) for _ in range(50)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    for connection in silent:
        connection.close()
    assert codes == {True: 50}
    assert 1 <= max(most) <= MOST_AT_ONCE


def test_a_port_in_use_says_which_and_what_to_do():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"metrics\.port: cannot listen on 127\.0\.0\.1:{port} .*metrics\.port=0"):
            Exporter("run", 1).serve("127.0.0.1", port)


def test_an_interface_that_is_not_there_says_so():
    with pytest.raises(ConfigError, match=r"metrics\.port: cannot listen on no\.such\.host\.invalid:0"):
        Exporter("run", 1).serve("no.such.host.invalid", 0)
