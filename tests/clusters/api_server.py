"""As much of a Kubernetes API server as kubectl needs: discovery, and objects that are kept as they come. Nothing acts on them."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

RESOURCES = {
    "/api/v1": {
        "pods": "Pod",
        "configmaps": "ConfigMap",
        "namespaces": "Namespace",
        "secrets": "Secret",
        "serviceaccounts": "ServiceAccount",
        "persistentvolumeclaims": "PersistentVolumeClaim",
        "resourcequotas": "ResourceQuota",
    },
    "/apis/ray.io/v1": {"rayjobs": "RayJob", "rayclusters": "RayCluster"},
    "/apis/policy/v1": {"poddisruptionbudgets": "PodDisruptionBudget"},
    "/apis/networking.k8s.io/v1": {"networkpolicies": "NetworkPolicy"},
    "/apis/kueue.x-k8s.io/v1beta1": {"localqueues": "LocalQueue", "workloads": "Workload"},
    "/apis/apiextensions.k8s.io/v1": {"customresourcedefinitions": "CustomResourceDefinition"},
    "/apis/authorization.k8s.io/v1": {"selfsubjectaccessreviews": "SelfSubjectAccessReview"},
}
CLUSTER_WIDE = {"Namespace", "CustomResourceDefinition", "SelfSubjectAccessReview"}
VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


class Server:
    """What the server holds: objects by path, what was asked, and what is refused."""

    def __init__(self):
        self.objects, self.asked, self.refused, self.logs = {}, [], set(), {}

    def put(self, prefix, plural, item, namespace="ptm"):
        path = f"{prefix}/{plural}" if item["kind"] in CLUSTER_WIDE else f"{prefix}/namespaces/{namespace}/{plural}"
        item.setdefault("metadata", {}).setdefault("uid", f"uid-{len(self.objects)}")
        item["metadata"].setdefault("creationTimestamp", f"2026-01-01T00:00:{len(self.objects):02}Z")
        self.objects[f"{path}/{item['metadata']['name']}"] = item

    def kinds(self):
        return sorted(item["kind"] for item in self.objects.values())

    def answer(self, method, url, body):
        path, query = urlsplit(url).path, parse_qs(urlsplit(url).query)
        self.asked.append((method, path))
        if found := discovered(path):
            return 200, found
        if path.endswith("/selfsubjectaccessreviews"):
            refused = any(verb in body and resource in body for verb, resource in self.refused)  # It comes as protobuf.
            answer = {"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "spec": {}}
            return 201, answer | {"status": {"allowed": not refused}}
        if path.endswith("/log"):
            return 200, self.logs.get(path.split("/")[-2], "")
        return self.crud(method, path, query, body)

    def crud(self, method, path, query, body):
        if method == "POST":
            prefix, plural = path.split("/namespaces/")[0], path.rpartition("/")[2]
            self.put(prefix, plural, body, path.split("/namespaces/")[1].split("/")[0])
            return 201, body
        if path in self.objects:
            if method == "PATCH":
                merge(self.objects[path], body)
            return 200, self.objects.pop(path) if method == "DELETE" else self.objects[path]
        if path.rpartition("/")[2] in {plural for names in RESOURCES.values() for plural in names}:
            wanted = dict(part.split("=") for part in query.get("labelSelector", [""])[0].split(",") if part)
            found = [item for key, item in self.objects.items() if key.rpartition("/")[0] == path]
            items = [item for item in found if wanted.items() <= item["metadata"].get("labels", {}).items()]
            plural = path.rpartition("/")[2]
            kind, prefix = next((names[plural], prefix) for prefix, names in RESOURCES.items() if plural in names)
            version = prefix.removeprefix("/apis/").removeprefix("/api/")
            return 200, {"kind": f"{kind}List", "apiVersion": version, "metadata": {}, "items": items}
        return 404, status(404, f"{path.rpartition('/')[2]} not found")


def discovered(path):
    """Return what a client asks before it does anything."""
    fixed = {
        "/version": {"gitVersion": "v1.33.0", "major": "1", "minor": "33"},
        "/openapi/v3": {"paths": {prefix[1:]: {"serverRelativeURL": f"/openapi/v3{prefix}"} for prefix in RESOURCES}},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [group(name) for name in RESOURCES if name != "/api/v1"]},
    }
    if path.startswith("/openapi/v3/"):
        return validates(path.removeprefix("/openapi/v3"))
    return resource_list(path) if path in RESOURCES else fixed.get(path)


def validates(prefix):
    """Say that the server itself looks at fields, as servers do since 1.25."""
    group, _, version = prefix.removeprefix("/apis/").removeprefix("/api/").rpartition("/")
    parameters = [{"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}]
    paths = {
        f"{prefix}/namespaces/{{namespace}}/{plural}/{{name}}": {
            "patch": {
                "parameters": parameters,
                "responses": {},
                "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
            }
        }
        for plural, kind in RESOURCES[prefix].items()
    }
    return {"openapi": "3.0.0", "info": {"title": "test", "version": "1"}, "paths": paths, "components": {}}


def merge(old, new):
    for key, value in new.items():
        if isinstance(value, dict):
            merge(old.setdefault(key, {}), value)
        else:
            old[key] = value


def status(code, message):
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "message": message, "code": code}


def group(path):
    name, version = path.removeprefix("/apis/").split("/")
    one = {"groupVersion": f"{name}/{version}", "version": version}
    return {"name": name, "versions": [one], "preferredVersion": one}


def resource_list(path):
    resources = [
        {"name": plural, "singularName": kind.lower(), "namespaced": kind not in CLUSTER_WIDE, "kind": kind, "verbs": VERBS}
        for plural, kind in RESOURCES[path].items()
    ]
    if path == "/api/v1":
        resources.append({"name": "pods/log", "singularName": "", "namespaced": True, "kind": "Pod", "verbs": ["get"]})
    version = path.removeprefix("/apis/").removeprefix("/api/")
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}


@contextmanager
def serving():
    """Serve on a free port of loopback and yield (server, address)."""
    held = Server()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def handle_one(self):
            length = int(self.headers.get("Content-Length", 0))
            data = self.rfile.read(length)
            body = json.loads(data) if data.startswith(b"{") else data.decode(errors="replace")
            code, answer = held.answer(self.command, self.path, body)
            data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "text/plain" if isinstance(answer, str) else "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = handle_one

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield held, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
