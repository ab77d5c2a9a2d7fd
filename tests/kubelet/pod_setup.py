"""From the specification of a pod to the container that a node starts: command, environment, files, limits."""

import base64
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kubelet.amounts import amount
from kubelet.api_client import ApiClient
from kubelet.containers import ContainerTask, Mount, environment_of_the_interpreter
from kubelet.refusals import ApiRefused

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


class CannotStart(Exception):
    """With the reason that the status of the pod gives while it waits."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, kw_only=True)
class PodImage:
    """What is in an image beside the interpreter and our package, such as a project folder; it hides a volume that is
    mounted at the same place."""

    mounts: tuple[Mount, ...] = ()
    folder: str = "/"
    """Where its processes start: WORKDIR."""


@dataclass(frozen=True, kw_only=True)
class PodSetup:
    api: ApiClient
    images: Mapping[str, PodImage]
    folder: Path
    """Of the nodes: volumes and logs of their pods."""
    claims: Path
    """Persistent volumes by namespace and claim."""

    def task_of(self, pod: Mapping[str, Any]) -> ContainerTask:
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        container = pod["spec"]["containers"][0]
        image = self.images.get(container["image"])
        if image is None:
            raise CannotStart("ErrImagePull", f'failed to pull image "{container["image"]}": not found')
        folder = self.folder / pod["metadata"]["uid"]
        folder.mkdir(parents=True, exist_ok=True)
        base, variables = environment_of_the_interpreter()
        own = {mount.target for mount in image.mounts}
        mounts = [*base, *image.mounts, *(it for it in self._mounts(pod, container, folder) if it.target not in own)]
        variables |= {**self._in_cluster(name), **self._variables(pod, container)}
        security = {**(pod["spec"].get("securityContext") or {}), **(container.get("securityContext") or {})}
        limits = (container.get("resources") or {}).get("limits") or {}
        asked = {**limits, **((container.get("resources") or {}).get("requests") or {})}
        user = security.get("runAsUser")
        if security.get("runAsNonRoot") and not user:
            raise CannotStart("CreateContainerConfigError", "container has runAsNonRoot and image will run as root")
        return ContainerTask(
            namespace=namespace,
            name=name,
            command=[*(container.get("command") or []), *(container.get("args") or [])],
            environment=variables,
            mounts=[*mounts, *self._account(pod, folder, namespace)],
            log=folder / "log",
            memory_bytes=int(amount(limits["memory"])) if "memory" in limits else None,
            cpus=float(amount(asked["cpu"])) if "cpu" in asked else None,
            user=None if user is None else f"{user}:{security.get('runAsGroup', user)}",
            read_only_root=bool(security.get("readOnlyRootFilesystem")),
            folder=container.get("workingDir", image.folder),
        )

    def forget(self, pod: Mapping[str, Any]) -> None:
        shutil.rmtree(self.folder / pod["metadata"]["uid"] / "volumes", ignore_errors=True)

    def _in_cluster(self, name: str) -> dict[str, str]:
        at = urlsplit(self.api.access.url)
        return {"KUBERNETES_SERVICE_HOST": str(at.hostname), "KUBERNETES_SERVICE_PORT": str(at.port), "HOSTNAME": name}

    def _variables(self, pod: Mapping[str, Any], container: Mapping[str, Any]) -> dict[str, str]:
        namespace, found = pod["metadata"]["namespace"], dict[str, str]()
        for source in container.get("envFrom") or ():
            for what, plural in (("configMapRef", "configmaps"), ("secretRef", "secrets")):
                if what in source:
                    found |= self._data(namespace, plural, source[what])
        for variable in container.get("env") or ():
            value = variable.get("value") or ""
            for what, given in (variable.get("valueFrom") or {}).items():
                value = self._given(pod, what, given)
            found[variable["name"]] = value
        return found

    def _given(self, pod: Mapping[str, Any], what: str, given: Mapping[str, Any]) -> str:
        if what == "fieldRef":
            value: Any = {**pod, "status": {"podIP": "127.0.0.1", **pod.get("status", {})}}
            for part in given["fieldPath"].split("."):
                value = value.get(part, "")
            return str(value)
        plural = {"secretKeyRef": "secrets", "configMapKeyRef": "configmaps"}[what]
        data = self._data(pod["metadata"]["namespace"], plural, given)
        if given["key"] not in data and not given.get("optional"):
            raise CannotStart("CreateContainerConfigError",
                              f"couldn't find key {given['key']} in {plural[:-1]} {given['name']}")  # fmt: skip
        return data.get(given["key"], "")

    def _data(self, namespace: str, plural: str, reference: Mapping[str, Any]) -> dict[str, str]:
        try:
            found = self.api.get(f"/api/v1/namespaces/{namespace}/{plural}/{reference['name']}")
        except ApiRefused as error:
            if reference.get("optional"):
                return {}
            raise CannotStart("CreateContainerConfigError", error.message) from None
        data = dict(found.get("data") or {})
        return {key: base64.b64decode(value).decode() for key, value in data.items()} if plural == "secrets" else data

    def _mounts(self, pod: Mapping[str, Any], container: Mapping[str, Any], folder: Path) -> list[Mount]:
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes") or ()}
        found = []
        for mounted in container.get("volumeMounts") or ():
            source = self._volume(pod, volumes[mounted["name"]], folder / "volumes")
            if mounted.get("subPath"):
                source /= mounted["subPath"]
            found.append(Mount(source=source, target=mounted["mountPath"], read_only=bool(mounted.get("readOnly"))))
        return found

    def _volume(self, pod: Mapping[str, Any], volume: Mapping[str, Any], folder: Path) -> Path:
        namespace, name = pod["metadata"]["namespace"], volume["name"]
        if "hostPath" in volume:
            return Path(volume["hostPath"]["path"])
        place = folder / name
        if "persistentVolumeClaim" in volume:
            place = self.claims / namespace / volume["persistentVolumeClaim"]["claimName"]
        place.mkdir(parents=True, exist_ok=True)
        place.chmod(0o777)
        for what, key, plural in (("configMap", "name", "configmaps"), ("secret", "secretName", "secrets")):
            if what in volume:
                data = self._data(namespace, plural, {"name": volume[what][key], **volume[what]})
                for file, text in data.items():
                    (place / file).write_text(text)
        return place

    def _account(self, pod: Mapping[str, Any], folder: Path, namespace: str) -> list[Mount]:
        """The token of its service account, as a real node fetches and mounts it."""
        mounted = [it["mountPath"] for it in pod["spec"]["containers"][0].get("volumeMounts") or ()]
        account = pod["spec"].get("serviceAccountName") or "default"
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}"
        wanted = pod["spec"].get("automountServiceAccountToken")
        if wanted is None:
            wanted = self.api.get(path).get("automountServiceAccountToken", True)
        if not wanted or ACCOUNT in mounted:
            return []
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {},
                   "spec": {"audiences": [], "expirationSeconds": 3600}}  # fmt: skip
        made = self.api.create(f"{path}/token", request)
        place = folder / "volumes" / ".account"
        place.mkdir(parents=True, exist_ok=True)
        (place / "token").write_text(made["status"]["token"])
        (place / "namespace").write_text(namespace)
        shutil.copy(self.api.access.certificate, place / "ca.crt")
        return [Mount(source=place, target=ACCOUNT)]
