"""Files made from cluster files: those in launch/ are the golden ones."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ptm_dist.clusters import CLUSTERS
from ptm_dist.clusters.files import load_cluster
from ptm_dist.clusters.render import render, stale, template
from ptm_dist.errors import ConfigError
from tests.tiny import ptm

ROOT = Path(__file__).parents[2]
RENDERED = ["kuberay", "slurm"]
BIN = Path(sys.executable).parent


@pytest.mark.parametrize("kind", RENDERED)
def test_the_files_in_launch_are_what_the_cluster_file_renders(kind, monkeypatch):
    monkeypatch.chdir(ROOT)
    cluster = load_cluster(ROOT / "configs" / "cluster" / f"{kind}.yaml")
    again = f"ptm cluster render configs/cluster/{kind}.yaml --to launch writes them anew"
    for name, text in cluster.render().items():
        path = ROOT / "launch" / name
        assert path.exists(), f"{path} is missing: {again}"
        assert path.read_text() == text, f"{path} is not what is rendered: {again}"
    assert stale(cluster, ROOT / "launch") == [], again


def test_what_is_the_same_is_not_written_and_what_is_not_is_named(tmp_path):
    cluster = CLUSTERS["slurm"].model_validate({"kind": "slurm"})
    assert [done.change for done in render(cluster, tmp_path)] == ["new"]
    path = tmp_path / "slurm" / "train.sbatch"
    before = path.stat().st_mtime_ns
    assert [done.change for done in render(cluster, tmp_path)] == ["same"]
    assert path.stat().st_mtime_ns == before
    longer = cluster.model_copy(update={"nodes": 2})
    assert [done.change for done in render(longer, tmp_path)] == ["changed"]
    (tmp_path / "slurm" / "old.sbatch").touch()
    assert stale(longer, tmp_path) == [tmp_path / "slurm" / "old.sbatch"]


@pytest.mark.parametrize("kind", CLUSTERS)
def test_a_printed_cluster_file_names_every_field_and_reads_back_as_the_defaults(kind, tmp_path):
    text = template(kind)
    (tmp_path / "mine.yaml").write_text(text)
    read = load_cluster(tmp_path / "mine.yaml")
    assert yaml.safe_load(text).keys() == CLUSTERS[kind].model_fields.keys()
    assert read == CLUSTERS[kind].model_validate({"kind": kind, "runs": read.runs, "cache": read.cache})
    documented = [field.description for field in CLUSTERS[kind].model_fields.values() if field.description]
    flowing = " ".join(line.strip().removeprefix("#").strip() for line in text.splitlines() if line.strip().startswith("#"))
    assert all(" ".join(told.split()).replace("None:", "null:") in flowing for told in documented)


def test_a_kind_that_does_not_exist_is_an_error_that_names_those_that_do():
    with pytest.raises(ConfigError, match="one of: local, ray, kuberay, slurm"):
        template("kubernetes")


def test_rendered_yaml_is_clean():
    config = "{extends: relaxed, rules: {line-length: disable, comments: {min-spaces-from-content: 2}}}"
    places = [ROOT / "launch" / "kubernetes", ROOT / "configs" / "cluster"]
    done = subprocess.run([BIN / "yamllint", "-s", "-d", config, *places], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize("overlay", ["base", "overlays/cpu-smoke", "overlays/gpu", "overlays/kueue", "overlays/monitoring"])
def test_kustomize_builds_every_overlay_in_launch(overlay):
    done = subprocess.run(["kubectl", "kustomize", ROOT / "launch/kubernetes" / overlay], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kinds = {item["kind"] for item in yaml.safe_load_all(done.stdout)}
    assert kinds >= ({"PodMonitor", "PrometheusRule", "ConfigMap"} if overlay.endswith("monitoring") else {"RayJob", "Namespace"})


def test_the_rules_of_the_operator_are_those_of_launch_monitoring():
    rule = yaml.safe_load((ROOT / "launch/kubernetes/overlays/monitoring/prometheusrule.yaml").read_text())
    groups = [
        group for path in sorted((ROOT / "launch/monitoring/rules").glob("*.yml")) for group in yaml.safe_load(path.read_text())["groups"]
    ]
    assert rule["spec"]["groups"] == groups


def test_the_commands_print_check_and_render(tmp_path):
    if "cluster" not in ptm("--help").stdout:
        pytest.skip("ptm cluster is not wired into the command line yet")
    printed = ptm("cluster", "init", "slurm")
    assert printed.returncode == 0
    (tmp_path / "mine.yaml").write_text(printed.stdout)
    assert "new      " in ptm("cluster", "render", tmp_path / "mine.yaml", "--to", tmp_path).stdout
    assert ptm("cluster", "init", "slum").returncode == 20
    checked = ptm("cluster", "check", tmp_path / "mine.yaml", PATH="/nowhere")
    assert checked.returncode == 1
    assert checked.stdout.startswith("FIX  sbatch is not installed here")
