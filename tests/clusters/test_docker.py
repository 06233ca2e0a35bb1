"""The images and the cluster of containers: checked by linters and schemas, since no container can be built everywhere."""

import json
import os
import re
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml

from ptm_dist.clusters.files import load_cluster
from ptm_dist.clusters.kuberay_job import USER

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
OURS = ("head", "worker", "submit")


def lint(*words):
    done = subprocess.run([BIN / words[0], *words[1:]], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_hadolint_has_nothing_to_say():
    lint("hadolint", "docker/Dockerfile")


def test_compose_is_what_its_schema_allows():
    lint("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker/compose.yaml")


def test_scripts_and_yaml_are_clean():
    lint("shellcheck", "docker/build_wheels.sh")
    config = "{extends: relaxed, rules: {line-length: disable, comments: {min-spaces-from-content: 2}}}"
    lint("yamllint", "-s", "-d", config, "docker")


def stages():
    return dict(re.findall(r"^FROM (?:\S+) AS (\S+)\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.M | re.S))


def test_both_targets_run_as_the_user_whom_kubernetes_expects_and_without_a_compiler():
    assert {"cpu", "gpu"} <= stages().keys()
    for target in ("cpu", "gpu"):
        assert f"USER {USER}:{USER}" in stages()[target]
        assert f"--uid {USER}" in stages()["common"]
        assert "org.opencontainers.image.revision" in stages()[target]
    final = stages()["common"] + stages()["cpu"] + stages()["gpu"]
    assert not re.search(r"build-essential|\bg?cc\b|g\+\+|apt-get install[^\n]*sudo", final)
    assert "/usr/bin/su " in final
    assert "a-s" in final
    assert "DS_ACCELERATOR=cpu" in stages()["cpu"]
    assert "DS_ACCELERATOR" not in stages()["gpu"]


def test_every_base_is_pinned():
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.M)
    assert {base for base in bases if base not in stages()} == {"${BASE}"}
    assert re.search(r"^ARG BASE=python:3\.11\.\d+-slim-bookworm$", DOCKERFILE, re.M)
    for name, service in COMPOSE["services"].items():
        assert re.search(r":v?\d+\.\d+\.\d+(-cpu)?$", service["image"]), name


def test_only_loopback_of_the_host_reaches_the_containers():
    published = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert sorted(published) == ["127.0.0.1:3000:3000", "127.0.0.1:8265:8265", "127.0.0.1:9090:9090"]


@pytest.mark.parametrize("name", OURS)
def test_containers_are_locked_down_and_bounded(name):
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}
    assert service["environment"]["RAY_AUTH_MODE"] == "token"
    assert service["environment"]["RAY_AUTH_TOKEN_PATH"] == "/run/secrets/ray_token"
    assert service["secrets"] == ["ray_token"]


def test_what_submit_reads_is_a_cluster_file_of_this_cluster():
    cluster = load_cluster(ROOT / "docker" / "cluster.yaml")
    volumes = {volume.split(":")[1] for volume in COMPOSE["services"]["worker"]["volumes"]}
    assert {cluster.runs, cluster.cache} == volumes
    assert cluster.address == "http://head:8265"


def test_prometheus_finds_the_targets_of_runs_where_its_configuration_looks():
    config = yaml.safe_load((ROOT / "launch/monitoring/prometheus.yml").read_text())
    (pattern,) = config["scrape_configs"][0]["file_sd_configs"][0]["files"]
    mounts = dict(volume.split(":")[:2] for volume in COMPOSE["services"]["prometheus"]["volumes"])
    looked = os.path.normpath(os.path.join(mounts["../launch/monitoring"], pattern))
    assert looked.startswith(mounts["runs"] + "/")


def test_nothing_but_what_the_images_need_goes_to_the_builder():
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    kept = {line[1:] for line in lines if line.startswith("!")}
    copied = {word.rstrip("/") for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.M) for word in line.split()[:-1]}
    assert copied <= kept


def test_a_lock_has_the_hash_of_every_package_from_an_index(tmp_path):
    packages = [("b-package", "2.0", {"sha256": "bb"}), ("A-package", "1.0", {"sha256": "aa"})]
    report = {
        "install": [entry(*package) for package in packages] + [{"metadata": {"name": "ptm_dist", "version": "0"}, "download_info": {}}]
    }
    done = subprocess.run(
        [sys.executable, ROOT / "docker/lock.py"], input=json.dumps(report), capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.splitlines() == ["A-package==1.0 --hash=sha256:aa", "b-package==2.0 --hash=sha256:bb"]


def entry(name, version, hashes):
    return {"metadata": {"name": name, "version": version}, "download_info": {"archive_info": {"hashes": hashes}}}


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/metrics" else 404)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_a_container_is_well_as_long_as_its_metrics_answer():
    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = Thread(target=server.serve_forever)
    thread.start()
    words = [sys.executable, ROOT / "docker/health.py"]
    environment = os.environ | {"PTM_METRICS_PORT": str(server.server_address[1])}
    try:
        assert subprocess.run(words, env=environment, check=False).returncode == 0
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert subprocess.run(words, env=environment, check=False).returncode == 1
