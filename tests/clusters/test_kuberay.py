"""Jobs on Kubernetes: the objects, checked by schemas, and the verbs, through a real kubectl and a server that keeps what it is sent."""

import importlib.metadata
import json
import os
import shlex
import shutil
import subprocess

import jsonschema
import kubernetes_validate
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.clusters.base import Job
from ptm_dist.clusters.kuberay import Kuberay, Pod
from ptm_dist.clusters.kuberay_check import cores_of
from ptm_dist.clusters.kuberay_job import LONGEST_NAME, exit_code_of, name_of
from ptm_dist.clusters.kuberay_objects import RayJob
from ptm_dist.errors import ConfigError
from tests.clusters.api_server import serving
from tests.tiny import tiny_recipe

KUBERNETES = "1.33"
JSON = "/etc/ptm/cluster.json"
needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")


def job_of(run="/runs/tiny", submission=1, **changes):
    return Job(tiny_recipe(**changes), run, submission)


def sent(cluster, job=None):
    return [yaml.safe_load(part.text) for part in cluster.plan(job or job_of())]


def templates(ray_job):
    spec = ray_job["spec"]["rayClusterSpec"]
    return [spec["headGroupSpec"]["template"], spec["workerGroupSpecs"][0]["template"], ray_job["spec"]["submitterPodTemplate"]]


def test_core_objects_are_what_kubernetes_takes_and_so_are_the_pods():
    ray_job, *others = sent(Kuberay())
    assert [item["kind"] for item in others] == ["ConfigMap", "PodDisruptionBudget", "NetworkPolicy"]
    for item in others:
        kubernetes_validate.validate(item, KUBERNETES, strict=True)
    for template in templates(ray_job):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"] | {"name": "x"}, "spec": template["spec"]}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def test_a_ray_job_has_only_the_fields_of_its_schema():
    ray_job = sent(Kuberay())[0]
    jsonschema.validate(ray_job, RayJob.model_json_schema())
    with pytest.raises(jsonschema.ValidationError, match="backofLimit"):
        jsonschema.validate(ray_job | {"spec": ray_job["spec"] | {"backofLimit": 1}}, RayJob.model_json_schema())


def test_a_ray_job_is_removed_after_its_end_and_has_no_deadline_and_no_retries_of_its_own():
    spec = sent(Kuberay())[0]["spec"]
    assert spec["backoffLimit"] == 0
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] == 600
    assert "activeDeadlineSeconds" not in spec
    assert "suspend" not in spec
    assert spec["rayClusterSpec"]["rayVersion"] == importlib.metadata.version("ray")
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token", "secretName": "ptm-ray-token"}
    assert sent(Kuberay(backoff_limit=2))[0]["spec"]["backoffLimit"] == 2


def test_pods_are_locked_down_and_write_only_to_their_volumes():
    for template in templates(sent(Kuberay())[0]):
        spec = template["spec"]
        (container,) = spec["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "capabilities": {"drop": ["ALL"]},
        }
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}
        env = {item["name"]: item for item in container["env"]}
        assert env["RAY_AUTH_MODE"]["value"] == "token"
        assert env["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": "ptm-ray-token", "key": "auth_token"}


def test_a_pod_that_must_go_has_time_to_save(tmp_path):
    head, worker, _ = templates(sent(Kuberay(grace_seconds=200))[0])
    assert head["spec"]["terminationGracePeriodSeconds"] == worker["spec"]["terminationGracePeriodSeconds"] == 230
    command = head["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert command == ["python", "-m", "ptm_dist.clusters.drain", "/runs/tiny", "--seconds", "200", "--head"]
    assert "--head" not in worker["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    run = tmp_path / "tiny"
    run.mkdir()
    told = [{"event": "step", "seconds": 100.0}, {"event": "checkpoint_saved", "seconds": 300.0}]
    (run / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in told))
    measured = sent(Kuberay(), job_of(str(run)))[0]
    assert templates(measured)[0]["spec"]["terminationGracePeriodSeconds"] == 30 + 2 * 400 + 30
    assert yaml.safe_load(measured["spec"]["runtimeEnvYAML"])["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"] == "830"


def test_nobody_but_the_job_the_operator_and_prometheus_reaches_the_pods():
    ray_job, _, _, policy = sent(Kuberay())
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= ray_job["metadata"]["labels"].items()
    among, operator, prometheus = policy["spec"]["ingress"]
    assert among["from"] == [{"podSelector": policy["spec"]["podSelector"]}]
    assert [port["port"] for port in operator["ports"]] == [8265]
    assert [port["port"] for port in prometheus["ports"]] == [9400, 8080]
    assert ray_job["spec"]["rayClusterSpec"]["headGroupSpec"]["serviceType"] == "ClusterIP"


def test_settings_reach_the_pods_that_they_mean():
    cluster = Kuberay(
        node=Pod(cpus=8, memory="64Gi", gpus=2, shared_memory="8Gi"),
        replicas=3,
        least_replicas=1,
        queue="team",
        node_selector={"gpu": "a100"},
        tolerations=({"key": "nvidia.com/gpu", "operator": "Exists"},),
        priority_class="low",
        image="there:1",
        environment={"NCCL_DEBUG": "WARN"},
    )
    ray_job = sent(cluster)[0]
    head, worker, _ = templates(ray_job)
    group = ray_job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (3, 1, 3)
    assert worker["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": "2"}
    assert {"name": "NCCL_DEBUG", "value": "WARN"} in worker["spec"]["containers"][0]["env"]
    assert worker["spec"]["nodeSelector"] == {"gpu": "a100"}
    assert worker["spec"]["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    assert "nodeSelector" not in head["spec"]
    assert head["spec"]["priorityClassName"] == worker["spec"]["priorityClassName"] == "low"
    assert ray_job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
    assert ray_job["spec"]["suspend"] is True
    sizes = [volume["emptyDir"]["sizeLimit"] for volume in worker["spec"]["volumes"] if volume["name"] == "shared-memory"]
    assert sizes == ["8Gi"]


def test_the_command_is_a_list_of_plain_words():
    words = shlex.split(sent(Kuberay())[0]["spec"]["entrypoint"])
    assert words[:4] == ["python", "-m", "ptm_dist.kept", "/runs/tiny/logs/driver-tiny-a1.log"]
    assert words[4:] == ["ptm", "train", "/etc/ptm/recipe.json", "--run", "/runs/tiny", "--cache", "/cache", "--cluster", JSON]


@pytest.mark.parametrize("run", ["/runs/a b", "/runs/$(id)", "/runs/x;y", "/runs/`x`", "/runs/x'y"])
def test_a_run_that_a_shell_would_understand_is_refused(run):
    with pytest.raises(ConfigError, match="takes letters, digits"):
        Kuberay().plan(job_of(run))


def test_a_recipe_that_no_config_map_holds_is_refused():
    paths = [f"/data/{number:06}-{'x' * 60}.jsonl" for number in range(15_000)]
    with pytest.raises(ConfigError, match="a ConfigMap holds 1,048,576"):
        Kuberay().plan(job_of(sources={"own": {"kind": "text", "paths": paths}}))


def test_a_job_with_too_little_room_is_refused():
    with pytest.raises(ConfigError, match="2 workers, but the pods have 1 GPUs"):
        Kuberay(replicas=1, node=Pod(gpus=1)).plan(job_of())
    with pytest.raises(ConfigError, match="the pods have 1 CPU cores"):
        Kuberay(replicas=1, node=Pod(cpus=1)).plan(job_of())


def test_no_secret_of_the_environment_is_in_anything_that_is_sent_or_rendered(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "planted-91fe")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-91fe")
    assert all("planted-91fe" not in part.text for part in Kuberay().plan(job_of()))
    assert all("planted-91fe" not in text for text in Kuberay().render().values())


@given(st.text(alphabet="abcXYZ019._-", min_size=1, max_size=64), st.integers(1, 999))
def test_names_are_what_kuberay_takes_and_differ_where_submissions_do(run, submission):
    job_id = f"{run}-a{submission}"
    name = name_of(job_id)
    assert len(name) <= LONGEST_NAME
    assert name == name.lower().strip("-")
    assert name[0].isalpha()
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert name == job_id or name[-7] == "-"
    assert name_of(f"{run}-a{submission + 1}") != name


def test_exit_codes_are_found_in_what_ray_tells():
    assert exit_code_of("Job entrypoint command failed with exit code 10, last available logs (truncated to 20,000 chars):") == 10
    assert exit_code_of("exit code 1\n...\ndriver ended with exit code 60 (a worker was lost)") == 60
    assert exit_code_of("") is None


@pytest.mark.parametrize(("quantity", "number"), [("4", 4), ("1500m", 1.5), ("2k", 2000), ("0", 0)])
def test_quantities_of_a_quota_are_numbers(quantity, number):
    assert cores_of(quantity) == number


@pytest.fixture
def kubernetes(tmp_path, monkeypatch):
    with serving() as (server, address):
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {"server": address}}],
            "users": [{"name": "me", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "me"}}],
            "current-context": "test",
        }
        (tmp_path / "config").write_text(yaml.safe_dump(config))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
        monkeypatch.setenv("HOME", str(tmp_path))
        yield server


def ray_job_in(server, name="tiny-a1"):
    return server.objects[f"/apis/ray.io/v1/namespaces/ptm/rayjobs/{name}"]


@needs_kubectl
def test_a_submission_is_created_seen_stopped_and_deleted(kubernetes):
    cluster = Kuberay(context="test")
    assert cluster.submit(job_of()) == "tiny-a1"
    assert kubernetes.kinds() == ["ConfigMap", "NetworkPolicy", "PodDisruptionBudget", "RayJob"]
    ray_job = ray_job_in(kubernetes)
    owners = [item["metadata"]["ownerReferences"][0]["uid"] for item in kubernetes.objects.values() if item["kind"] != "RayJob"]
    assert owners == [ray_job["metadata"]["uid"]] * 3
    assert cluster.state("tiny-a1").phase == "pending"
    ray_job["status"] = {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}
    assert [(state.id, state.phase, state.native) for state in cluster.jobs()] == [("tiny-a1", "running", "Running RUNNING")]
    cluster.stop("tiny-a1", now=False)
    assert ray_job["spec"]["suspend"] is True
    ray_job["status"] = {"jobDeploymentStatus": "Suspended"}
    assert cluster.state("tiny-a1").phase == "stopped"
    cluster.stop("tiny-a1", now=True)
    assert "RayJob" not in kubernetes.kinds()
    kubernetes.put("/api/v1", "namespaces", core("Namespace", "ptm"))
    with pytest.raises(ConfigError, match="tiny-a1 not found"):
        cluster.state("tiny-a1")


@needs_kubectl
def test_a_run_with_capitals_keeps_its_name_in_the_state(kubernetes):
    cluster = Kuberay()
    assert cluster.submit(job_of("/runs/Tiny_2.0")) == "Tiny_2.0-a1"
    assert [state.id for state in cluster.jobs()] == ["Tiny_2.0-a1"]
    assert cluster.state("Tiny_2.0-a1").phase == "pending"


@needs_kubectl
@pytest.mark.parametrize(
    ("status", "phase", "code"),
    [
        ({"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}, "finished", 0),
        ({"jobDeploymentStatus": "Complete", "jobStatus": "STOPPED"}, "stopped", None),
        ({"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "message": "failed with exit code 60, last"}, "failed", 60),
        ({"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "message": "failed with exit code 10, last"}, "stopped", 10),
        ({"jobDeploymentStatus": "ValidationFailed", "message": "name is too long"}, "failed", None),
        ({"jobDeploymentStatus": "Initializing"}, "pending", None),
        ({"jobDeploymentStatus": "Suspending"}, "running", None),
    ],
)
def test_what_kuberay_says_is_understood(status, phase, code, kubernetes):
    cluster = Kuberay()
    cluster.submit(job_of())
    ray_job_in(kubernetes)["status"] = status
    state = cluster.state("tiny-a1")
    assert (state.phase, state.exit_code) == (phase, code)


@needs_kubectl
def test_in_a_queue_a_suspended_job_waits_and_is_stopped_through_its_workload(kubernetes):
    cluster = Kuberay(queue="team")
    cluster.submit(job_of())
    ray_job = ray_job_in(kubernetes)
    ray_job["status"] = {"jobDeploymentStatus": "Suspended"}
    assert cluster.state("tiny-a1").phase == "pending"
    labels = {"kueue.x-k8s.io/job-uid": ray_job["metadata"]["uid"]}
    workload = {"apiVersion": "kueue.x-k8s.io/v1beta1", "kind": "Workload", "metadata": {"name": "w", "labels": labels}, "spec": {}}
    kubernetes.put("/apis/kueue.x-k8s.io/v1beta1", "workloads", workload)
    cluster.stop("tiny-a1", now=False)
    assert workload["spec"] == {"active": False}
    assert cluster.state("tiny-a1").phase == "stopped"


@needs_kubectl
@pytest.mark.parametrize("follow", [False, True])
def test_logs_are_those_of_the_pod_that_submits(follow, kubernetes):
    labels = {"batch.kubernetes.io/job-name": "tiny-a1"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "tiny-a1-x", "namespace": "ptm", "labels": labels},
        "spec": {"containers": [{"name": "ray-job-submitter"}]},
    }
    kubernetes.put("/api/v1", "pods", pod)
    kubernetes.logs["tiny-a1-x"] = "attempt 1\nstep 1\n"
    assert list(Kuberay().logs("tiny-a1", follow=follow)) == ["attempt 1", "step 1"]


@needs_kubectl
def test_check_says_what_is_missing_and_is_content_when_all_is_there(kubernetes):
    cluster = Kuberay(queue="team")
    missing = [finding.text for finding in cluster.check() if not finding.fine]
    for told in (
        "kubectl create namespace ptm",
        "Install the operator",
        "runs_claim",
        "cache_claim",
        "create secret generic",
        "localqueues",
    ):
        assert any(told in text for text in missing), told
    auth = {"authOptions": {"properties": {"secretName": {}}}}
    schema = {"openAPIV3Schema": {"properties": {"spec": {"properties": {"rayClusterSpec": {"properties": auth}}}}}}
    crd = {"kind": "CustomResourceDefinition", "apiVersion": "apiextensions.k8s.io/v1", "metadata": {"name": "rayjobs.ray.io"}}
    kubernetes.put(
        "/apis/apiextensions.k8s.io/v1", "customresourcedefinitions", crd | {"spec": {"versions": [{"name": "v1", "schema": schema}]}}
    )
    kubernetes.put("/api/v1", "namespaces", core("Namespace", "ptm"))
    kubernetes.put("/api/v1", "serviceaccounts", core("ServiceAccount", "ptm"))
    kubernetes.put("/api/v1", "secrets", core("Secret", "ptm-ray-token", data={"auth_token": "cGxhbnRlZA=="}))
    for name in ("ptm-runs", "ptm-cache"):
        claim = core("PersistentVolumeClaim", name, spec={"accessModes": ["ReadWriteMany"]}, status={"phase": "Bound"})
        kubernetes.put("/api/v1", "persistentvolumeclaims", claim)
    queue = {"apiVersion": "kueue.x-k8s.io/v1beta1", "kind": "LocalQueue", "metadata": {"name": "team"}}
    kubernetes.put("/apis/kueue.x-k8s.io/v1beta1", "localqueues", queue)
    quota = core("ResourceQuota", "q", status={"hard": {"requests.cpu": "12"}, "used": {"requests.cpu": "500m"}})
    kubernetes.put("/api/v1", "resourcequotas", quota)
    findings = list(cluster.check())
    assert [finding.text for finding in findings if not finding.fine] == []
    assert any("quota q: requests.cpu: 11.5 left, a job takes 10" in finding.text for finding in findings)
    assert not any("cGxhbnRlZA" in finding.text for finding in findings)
    kubernetes.refused.add(("patch", "rayjobs"))
    (refused,) = [finding.text for finding in cluster.check() if not finding.fine]
    assert "you may not patch rayjobs.ray.io in ptm" in refused
    quota["status"]["used"]["requests.cpu"] = "5"
    assert any("Lower replicas or node" in finding.text for finding in cluster.check())


def core(kind, name, **fields):
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}} | fields


@needs_kubectl
def test_a_cluster_that_does_not_answer_is_an_error_that_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigError, match="kubectl get rayjobs"):
        Kuberay().jobs()
    assert any("Check `context`" in finding.text for finding in Kuberay().check() if not finding.fine)


def test_without_kubectl_the_error_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="kubectl is not installed here"):
        Kuberay().jobs()


@needs_kubectl
@pytest.mark.parametrize("overlay", ["base", "overlays/cpu-smoke", "overlays/gpu", "overlays/kueue"])
def test_kustomize_makes_of_each_overlay_what_the_cluster_file_of_its_variant_makes(overlay, tmp_path):
    from ptm_dist.clusters.kuberay_render import objects, smoke_recipe, variants

    cluster = Kuberay()
    for name, text in cluster.render().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        ["kubectl", "kustomize", tmp_path / "kubernetes" / overlay], capture_output=True, text=True, check=True, env=os.environ
    )
    made = {(item["kind"], item["metadata"]["name"]): item for item in yaml.safe_load_all(done.stdout)}
    variant = {"base": cluster}.get(overlay) or variants(cluster)[overlay.rpartition("/")[2]]
    for item in objects(variant, Job(smoke_recipe(), "/runs/smoke")):
        assert made[item["kind"], item["metadata"]["name"]] == item
    for item in made.values():
        if item["apiVersion"] != "ray.io/v1":
            kubernetes_validate.validate(item, KUBERNETES, strict=True)
