"""A real Prometheus and a real Alertmanager, as launch/monitoring sets them up, with shorter times."""

import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml

from tests.monitoring.promtool import MONITORING

needs_servers = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("prometheus-alertmanager")),
    reason="Prometheus is missing: apt-get install prometheus prometheus-alertmanager",
)


def wait_for(what, seconds=200.0):
    """Return the first answer of `what` that is true."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, f"{what.__name__}: not within {seconds:.0f} s"
        time.sleep(0.2)
    return found


@contextmanager
def webhook():
    """Listen as a chat or pager would; yield the address and the list of alerts that came."""
    alerts = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            alerts.extend(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["alerts"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/alerts", alerts
    server.shutdown()
    server.server_close()


@contextmanager
def running(folder, *words):
    """Run a server on a free port, which is put in place of PORT; yield its address once it is ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / f"{words[0]}.log").open("w") as log:
        process = subprocess.Popen([str(word).replace("PORT", str(port)) for word in words], stdout=log, stderr=log)
    try:

        def is_ready():
            assert process.poll() is None, (folder / f"{words[0]}.log").read_text()
            try:
                return urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=1).status == 200
            except OSError:
                return False

        wait_for(is_ready)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


def alertmanager(folder, hook):
    """Run Alertmanager with its own configuration and another receiver."""
    configuration = yaml.safe_load((MONITORING / "alertmanager.yml").read_text())
    configuration["route"] |= {"group_wait": "0s", "group_interval": "1s"}
    receiver = configuration["receivers"][0]["webhook_configs"][0]
    (folder / "token").write_text("none")
    receiver["url"] = hook
    receiver["http_config"]["authorization"]["credentials_file"] = str(folder / "token")
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(configuration))
    return running(
        folder, "prometheus-alertmanager", f"--config.file={folder / 'alertmanager.yml'}", f"--storage.path={folder / 'alertmanager'}",
        "--web.listen-address=127.0.0.1:PORT", "--cluster.listen-address=",
    )  # fmt: skip


def prometheus(folder, targets, driver, alerts):
    """Run Prometheus with its own configuration and rules; it looks every second, and alerts wait for two."""
    configuration = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    configuration["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [alerts]
    [job] = configuration["scrape_configs"]
    job["file_sd_configs"] = [{"files": [str(targets)], "refresh_interval": "1s"}]
    # The same once more by way of the driver; of this job nothing but `up` is kept.
    drop = [{"source_labels": ["__name__"], "regex": "ptm_.*", "action": "drop"}]
    other = {"job_name": "by-driver", "honor_labels": True, "metric_relabel_configs": drop}
    configuration["scrape_configs"].append(other | {"http_sd_configs": [{"url": f"http://{driver}/sd", "refresh_interval": "1s"}]})
    (folder / "rules").mkdir()
    for path in (MONITORING / "rules").glob("*.yml"):
        rules = yaml.safe_load(path.read_text())
        for rule in (rule for group in rules["groups"] for rule in group["rules"] if "for" in rule):
            rule["for"] = "2s"
        (folder / "rules" / path.name).write_text(yaml.safe_dump(rules))
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    return running(
        folder, "prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'prometheus'}",
        "--web.listen-address=127.0.0.1:PORT",
    )  # fmt: skip


def ask(address, expression, at=None):
    """Return what an expression gives: [(labels, value or values)]."""
    words = {"query": expression} | ({"time": at} if at else {})
    with urllib.request.urlopen(f"http://{address}/api/v1/query?{urllib.parse.urlencode(words)}", timeout=10) as answer:
        found = json.load(answer)["data"]["result"]
    return [(entry["metric"], entry.get("values", entry.get("value"))) for entry in found]
