"""Our product in a test cluster: code server, web server and daemon as pods, with the rights and secrets they need."""

import json
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from conftest import eventually

from ai_assets.base.cluster import cluster_in
from ai_assets.ops.dagster_client import DagsterApi, DagsterRefused, DagsterUnreachable
from ai_assets.orchestration.cluster.launcher_config import launcher_config
from ai_assets.orchestration.instance import instance_settings
from kubelet.cluster import OwnCluster
from kubelet.nodes import SCHEDULER

HOME = "/ai-assets/home"
USER = 10_001
_RIGHTS = ("Namespace", "PriorityClass", "ServiceAccount", "Role", "RoleBinding", "ResourceQuota", "LimitRange")
"""Of what `ai-assets deploy render` writes, what is applied as it is. The pods of its Deployments are written below,
because the nodes of a test have one network, in which each listens at a port of its own."""


@dataclass(kw_only=True)
class ClusterDeployment:
    """One namespace of it."""

    cluster: OwnCluster
    namespace: str
    project: Path
    rendered: Path
    """The folder that `ai-assets deploy render` wrote."""
    image: str
    environment: Mapping[str, str]
    """What pods find in their environment, by a Secret."""
    web_port: int
    code_port: int
    tenant: str | None = None
    """One with a namespace and a code location of its own."""
    tenant_port: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of dagster.yaml, beside what the product writes."""

    @property
    def api(self) -> DagsterApi:
        return DagsterApi(f"http://127.0.0.1:{self.web_port}")

    def prepare(self) -> None:
        """The namespace, rights and quotas as they are rendered, and what pods read."""
        operations = self.project / "operations.yaml"
        launcher = launcher_config(cluster_in(operations), operations)
        launcher["config"]["scheduler_name"] = SCHEDULER
        launcher["config"]["env_secrets"] = []  # as it is rendered: each code location names those of its runs
        dagster = {**instance_settings(4, in_postgres=True, launcher=launcher), **self.settings}
        code = {"grpc_server": {"host": "127.0.0.1", "port": self.code_port, "location_name": "definitions"}}
        locations = [code]
        if self.tenant is not None:
            own = {"host": "127.0.0.1", "port": self.tenant_port, "location_name": self.tenant}
            locations.append({"grpc_server": own})
        self.cluster.apply(*self.rights(), namespace=self.namespace)
        for namespace, secret, whose in self._secrets():
            self.cluster.apply(
                {**_named("v1", "Secret", secret), "stringData": {**self.environment, f"OF_{whose.upper()}": "secret"}},
                _config("ai-assets-environment", "AI_ASSETS_DESK_URL", "http://127.0.0.1:1"),
                _config("dagster-instance", "dagster.yaml", yaml.safe_dump(dagster)),
                _config("workspace", "workspace.yaml", yaml.safe_dump({"load_from": locations})),
                namespace=namespace,
            )

    @property
    def tenant_namespace(self) -> str:
        return f"{self.namespace}-{self.tenant}"

    def _secrets(self) -> Iterator[tuple[str, str, str]]:
        """Namespace, name and whose it is."""
        yield self.namespace, "ai-assets-secrets", "default"
        if self.tenant is not None:
            yield self.tenant_namespace, f"{self.tenant}-secrets", self.tenant

    def remove(self) -> None:
        """The namespace and all in it, and the classes that belong to no namespace."""
        client = self.cluster.client
        for namespace, _, _ in self._secrets():
            client.delete(f"/api/v1/namespaces/{namespace}")
        for each in self.rights():
            if each["kind"] == "PriorityClass":
                client.delete(f"/apis/scheduling.k8s.io/v1/priorityclasses/{each['metadata']['name']}")

    def rights(self) -> Sequence[dict[str, Any]]:
        found = [
            each
            for folder in ("base", *([f"tenants/{self.tenant}"] if self.tenant is not None else []))
            for file in sorted((self.rendered / folder).glob("*.yaml"))
            for each in yaml.safe_load_all(file.read_text())
            if each["kind"] in _RIGHTS
        ]
        return sorted(found, key=lambda each: _RIGHTS.index(each["kind"]))

    def start(self) -> None:
        """All three, and only when they answer."""
        workspace = ["-w", "/workspace/workspace.yaml"]
        self.start_code_server(self.image, self.project)
        if self.tenant is not None:
            self._start_tenant(self.tenant)
        self._pod(
            "webserver", self.image, ["dagster-webserver", *workspace, "-h", "127.0.0.1", "-p", str(self.web_port)]
        )
        self._wait_for("webserver", self._knows_assets)
        self._pod("daemon", self.image, ["python", "-m", "ai_assets.ops.daemon", "run", *workspace])

    def start_code_server(self, image: str, project: Path, name: str = "code") -> None:
        """Runs that it loads are started in its own image."""
        serve = ["dagster", "api", "grpc", "-h", "127.0.0.1", "-p", str(self.code_port), "-f", "definitions.py"]
        serve += ["-d", str(project), "--container-image", image, "--location-name", "definitions"]
        serve += ["--container-context", self._context("base")]
        of = {"AI_ASSETS_TENANT": "default"} if self.tenant is not None else {}
        self._pod(name, image, serve, "ai-assets-serve", **of)
        self._wait_for(name, lambda: _listens(self.code_port))

    def _start_tenant(self, tenant: str) -> None:
        """As its Deployment is rendered, at a port of its own."""
        serve = ["dagster", "api", "grpc", "-h", "127.0.0.1", "-p", str(self.tenant_port), "-f", "definitions.py"]
        serve += ["-d", str(self.project), "--container-image", self.image, "--location-name", tenant]
        serve += ["--container-context", self._context(f"tenants/{tenant}")]
        self._pod(
            "code", self.image, serve, "default", namespace=self.tenant_namespace, secret=f"{tenant}-secrets",
            AI_ASSETS_TENANT=tenant,
        )  # fmt: skip
        self._wait_for("code", lambda: _listens(self.tenant_port), self.tenant_namespace)

    def _context(self, folder: str) -> str:
        """What a code location says of its runs."""
        rendered = (self.rendered / folder / "code-location.yaml").read_text()
        (made,) = (each for each in yaml.safe_load_all(rendered) if each["kind"] == "Deployment")
        args = list(made["spec"]["template"]["spec"]["containers"][0]["args"])
        return str(args[args.index("--container-context") + 1])

    def replace_code_server(self, image: str, project: Path, old: str = "code", new: str = "code-2") -> None:
        """A rolling upgrade: the old pod ends, one with another image takes over its address."""
        self.cluster.client.delete(f"/api/v1/namespaces/{self.namespace}/pods/{old}", {"gracePeriodSeconds": 2})
        eventually(lambda: old not in self.names(), 60)
        self.start_code_server(image, project, new)

    def _wait_for(self, pod: str, claim: Callable[[], object], namespace: str | None = None) -> None:
        """A pod that has ended instead says why."""

        def so() -> bool:
            path = f"/api/v1/namespaces/{namespace or self.namespace}/pods/{pod}"
            assert self.cluster.client.get(path)["status"].get("phase") in {"Pending", "Running"}, self.logs()
            return bool(claim())

        eventually(so, 180)

    def _knows_assets(self) -> bool:
        try:
            return self.api.knows([["notes", "release_candidate"]])
        except (DagsterUnreachable, DagsterRefused):
            return False

    def names(self) -> Sequence[str]:
        return [pod["metadata"]["name"] for pod in self.cluster.pods(self.namespace)]

    def workers(self, run: str | None = None) -> Sequence[Mapping[str, Any]]:
        """Pods of runs and steps, or of that run, which have not ended."""
        labels = "app.kubernetes.io/component" if run is None else f"dagster/run-id={run}"
        found = self.cluster.pods(self.namespace, labels)
        return [pod for pod in found if pod["status"].get("phase") in {"Pending", "Running"}]

    def logs(self) -> str:
        """For a test that fails: what every pod wrote last."""
        parts = []
        for pod in [pod for namespace, _, _ in self._secrets() for pod in self.cluster.pods(namespace)]:
            state = json.dumps(pod["status"].get("containerStatuses", [{}])[0].get("state"))
            parts.append(f"== {pod['metadata']['name']} {state}\n{self.cluster.log(pod)[-3000:]}")
        return "\n".join(parts)

    def _pod(
        self, name: str, image: str, command: list[str], account: str = "ai-assets-launcher", *,
        namespace: str | None = None, secret: str = "ai-assets-secrets", **variables: str,
    ) -> None:  # fmt: skip
        security = {"runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER}
        container = {
            "name": "main", "image": image, "args": command,
            "envFrom": [{"secretRef": {"name": secret}},
                        {"configMapRef": {"name": "ai-assets-environment"}}],
            "env": [{"name": "DAGSTER_HOME", "value": f"{HOME}/dagster"}, {"name": "AI_ASSETS_HOME", "value": HOME},
                    {"name": "AI_ASSETS_ENVIRONMENT", "value": "cluster"},
                    *({"name": key, "value": value} for key, value in variables.items())],
            "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}},
            "volumeMounts": [
                {"name": "home", "mountPath": HOME}, {"name": "tmp", "mountPath": "/tmp"},
                {"name": "instance", "mountPath": f"{HOME}/dagster/dagster.yaml", "subPath": "dagster.yaml"},
                {"name": "workspace", "mountPath": "/workspace"},
            ],
        }  # fmt: skip
        volumes = [{"name": "home", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}},
                   {"name": "instance", "configMap": {"name": "dagster-instance"}},
                   {"name": "workspace", "configMap": {"name": "workspace"}}]  # fmt: skip
        spec = {"serviceAccountName": account, "automountServiceAccountToken": account == "ai-assets-launcher",
                "restartPolicy": "Never", "securityContext": security, "schedulerName": SCHEDULER,
                "terminationGracePeriodSeconds": 5, "containers": [container], "volumes": volumes}  # fmt: skip
        self.cluster.apply({**_named("v1", "Pod", name), "spec": spec}, namespace=namespace or self.namespace)


def project_settings(namespace: str, image: str, **more: Any) -> str:
    """operations.yaml of a project in a cluster; runs and steps are as small as a node of a test is."""
    size = {"cpu": "250m", "memory": "1Gi"}
    cluster = {"namespace": namespace, "image": image, "home": HOME, "run": size, "step": size,
               "health_check_s": 1, **more}  # fmt: skip
    return yaml.safe_dump({"environment": "cluster", "cluster": cluster})


def _config(name: str, file: str, text: str) -> dict[str, Any]:
    return {**_named("v1", "ConfigMap", name), "data": {file: text}}


def _named(api_version: str, kind: str, name: str) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}}


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
