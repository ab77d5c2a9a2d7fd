"""A cluster for tests: an API server (ours, or a real one by its kubeconfig) and nodes of ours."""

import random
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubelet.api_client import ApiAccess, ApiClient
from kubelet.api_server import ApiServer
from kubelet.containers import Mount, Runtime, runtime
from kubelet.kinds import BY_KIND
from kubelet.nodes import ClusterNode, Nodes, PodRun
from kubelet.pod_setup import PodImage, PodSetup
from kubelet.refusals import ApiRefused

THREE_NODES = tuple(ClusterNode(name=f"node-{number}") for number in (1, 2, 3))


@dataclass(kw_only=True)
class OwnCluster:
    access: ApiAccess
    client: ApiClient
    nodes: Nodes
    runtime: Runtime
    folder: Path
    images: dict[str, PodImage] = field(default_factory=dict)
    server: ApiServer | None
    """None where the API server is a real one."""

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    def image(self, name: str, *mounts: Mount, folder: str = "/") -> str:
        self.images[name] = PodImage(mounts=mounts, folder=folder)
        return name

    def apply(self, *objects: Mapping[str, Any], namespace: str = "default") -> None:
        """As `kubectl apply` does for what is new; what is there stays as it is."""
        for new in objects:
            kind = BY_KIND[new["apiVersion"], new["kind"]]
            where = new["metadata"].get("namespace", namespace)
            path = f"/apis/{kind.api_version}" if kind.group else "/api/v1"
            path += f"/namespaces/{where}/{kind.plural}" if kind.namespaced else f"/{kind.plural}"
            try:
                self.client.create(path, dict(new))
            except ApiRefused as error:
                if error.reason != "AlreadyExists":
                    raise

    def pods(self, namespace: str, labels: str = "") -> list[dict[str, Any]]:
        found = self.client.get(f"/api/v1/namespaces/{namespace}/pods?labelSelector={labels}")
        return list(found["items"])

    def jobs(self, namespace: str) -> list[dict[str, Any]]:
        return list(self.client.get(f"/apis/batch/v1/namespaces/{namespace}/jobs")["items"])

    def log(self, pod: Mapping[str, Any]) -> str:
        metadata = pod["metadata"]
        return self.client.text(f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/log")


@dataclass(kw_only=True)
class RandomKills:
    """Kills a running pod every now and then, until told to stop or the number is reached."""

    nodes: Nodes
    most: int
    seed: int
    every_s: float
    wanted: Callable[[PodRun], bool] = lambda run: True
    killed: list[str] = field(default_factory=list)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "RandomKills":
        self._thread = threading.Thread(target=self._kill, daemon=True, name="killer")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _kill(self) -> None:
        chance = random.Random(self.seed)
        while len(self.killed) < self.most and not self._stopped.wait(self.every_s * (0.5 + chance.random())):
            alive = [run for run in self.nodes.running() if self.wanted(run)]
            if alive:
                chosen = chance.choice(sorted(alive, key=lambda run: str(run.pod["metadata"]["name"])))
                self.nodes.kill(chosen)
                self.killed.append(chosen.pod["metadata"]["name"])


@contextmanager
def own_cluster(nodes: Sequence[ClusterNode] = THREE_NODES, kubeconfig: Path | None = None) -> Iterator[OwnCluster]:
    """With `kubeconfig`, our nodes join that cluster, and take the pods that name our scheduler."""
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="ai-assets-k8s-", ignore_cleanup_errors=True))
        )
        folder.chmod(0o755)
        containers = stack.enter_context(runtime())
        server = None
        if kubeconfig is None:
            server = ApiServer(folder)
            server.start()
            stack.callback(server.stop)
            access = ApiAccess(url=server.url, token=server.administrator, certificate=server.certificate)
        else:
            access = ApiAccess.of_kubeconfig(kubeconfig, folder)
        images: dict[str, PodImage] = {}
        client = ApiClient(access)
        setup = PodSetup(api=client, images=images, folder=folder / "pods", claims=folder / "claims")
        started = Nodes(client, containers, setup, nodes, alone=server is not None)
        started.start()
        stack.callback(started.stop)
        found = OwnCluster(access=access, client=client, nodes=started, runtime=containers, folder=folder,
                            images=images, server=server)  # fmt: skip
        access.write_kubeconfig(found.kubeconfig)
        yield found
