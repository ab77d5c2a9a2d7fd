"""Claims about what `ai-assets deploy render` writes: it is valid, complete, the same each time, and current here."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from conftest import REPOSITORY, STAGE, Project

from ai_assets.base.cluster import ClusterSettings, cluster_in
from ai_assets.collection.loading import Collection, load_collection
from ai_assets.deploy.errors import QuotaTooSmall, RenderingDiffers, RenderingUnwritable, TenantsLeftOut
from ai_assets.deploy.plan import DeploymentPlan, planned
from ai_assets.deploy.rendering import refuse_different, rendered, write
from ai_assets.deploy.shared_files import AT_ONCE
from ai_assets.desk.machine_paths import HEALTH, METRICS, READY
from ai_assets.desk.settings import DeskSettings
from ai_assets.orchestration.code_location import code_locations

API_VERSIONS = ("1.27", "1.32")
"""The oldest and the newest that we say it is for."""
SAMPLES = ("handbook", "reports")
CUSTOM = ("monitoring.coreos.com/v1",)
"""Of resources that others add to a cluster: no schema of Kubernetes knows them."""


def plan_of(collections: list[Collection], cluster: ClusterSettings, definitions: list[str]) -> DeploymentPlan:
    return planned(REPOSITORY, Path("operations.yaml"), cluster, collections, definitions, behind_proxy=False)


@pytest.fixture(scope="module")
def sample() -> Mapping[str, str]:
    cluster = cluster_in(REPOSITORY / "deploy" / "operations.yaml")
    (location,) = code_locations(REPOSITORY)
    found = [load_collection(REPOSITORY / "collections", name) for name in SAMPLES]
    return rendered(plan_of(found, cluster, location.image_arguments(REPOSITORY, "/app")))


@pytest.fixture(scope="module")
def objects(sample: Mapping[str, str]) -> list[dict[str, Any]]:
    return list(objects_in(sample))


def objects_in(files: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    for path, text in files.items():
        if not path.startswith("helm/"):
            found = (each for each in yaml.safe_load_all(text) if each["kind"] != "Kustomization")
            yield from (each for each in found if each["apiVersion"] not in CUSTOM)


def pods_in(objects: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (each["metadata"]["namespace"], each["spec"]["template"]["spec"])
        for each in objects
        if each["kind"] in ("Deployment", "Job")
    ]


def named(objects: list[dict[str, Any]], kind: str) -> set[tuple[str | None, str]]:
    return {(each["metadata"].get("namespace"), each["metadata"]["name"]) for each in objects if each["kind"] == kind}


def test_the_rendering_of_the_samples_in_the_repository_is_current(sample: Mapping[str, str]) -> None:
    """Otherwise: AI_ASSETS_OPERATIONS=deploy/operations.yaml ai-assets deploy render deploy"""
    refuse_different(REPOSITORY / "deploy", sample)


@pytest.mark.parametrize("version", API_VERSIONS)
def test_every_object_is_valid(objects: list[dict[str, Any]], version: str) -> None:
    assert {each["kind"] for each in objects} == {
        "ConfigMap", "Deployment", "HorizontalPodAutoscaler", "Job", "LimitRange", "Namespace", "NetworkPolicy",
        "PodDisruptionBudget", "PriorityClass", "ResourceQuota", "Role", "RoleBinding", "Service", "ServiceAccount",
    }  # fmt: skip
    for each in objects:
        kubernetes_validate.validate(each, version, strict=True)
        assert len(each["metadata"]["name"]) <= 63


def test_what_an_object_names_is_there_or_is_a_secret_of_the_operators(objects: list[dict[str, Any]]) -> None:
    accounts = named(objects, "ServiceAccount")
    classes = {name for _, name in named(objects, "PriorityClass")}
    for namespace, pod in pods_in(objects):
        assert pod["serviceAccountName"] == "default" or (namespace, pod["serviceAccountName"]) in accounts
        assert pod["priorityClassName"] in classes
        (container,) = pod["containers"]
        configs = {each["configMapRef"]["name"] for each in container["envFrom"] if "configMapRef" in each}
        configs |= {each["configMap"]["name"] for each in pod["volumes"] if "configMap" in each}
        assert {(namespace, name) for name in configs} <= named(objects, "ConfigMap")
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
    for binding in (each for each in objects if each["kind"] == "RoleBinding"):
        (who,) = binding["subjects"]
        assert (who["namespace"], who["name"]) in accounts
        assert (binding["metadata"]["namespace"], binding["roleRef"]["name"]) in named(objects, "Role")
    assert not named(objects, "Secret")


def test_a_kustomization_names_files_that_are_there_and_all_of_them(sample: Mapping[str, str]) -> None:
    for path, text in sample.items():
        if not path.endswith("kustomization.yaml"):
            continue
        folder = Path(path).parent
        for resource in yaml.safe_load(text)["resources"]:
            target = (REPOSITORY / "deploy" / folder / resource).resolve().relative_to(REPOSITORY / "deploy").as_posix()
            assert target in sample or f"{target}/kustomization.yaml" in sample, (path, resource)
    listed = {
        f"{Path(path).parent.as_posix()}/{each}"
        for path, text in sample.items()
        if path.endswith("kustomization.yaml")
        for each in yaml.safe_load(text)["resources"]
    }
    others = {path for path in sample if not path.endswith("kustomization.yaml") and not path.startswith("helm/")}
    assert others <= listed


def test_pods_of_a_tenant_have_its_namespace_and_none_but_its_secrets(objects: list[dict[str, Any]]) -> None:
    (code,) = [
        each for each in objects if each["kind"] == "Deployment" and each["metadata"]["namespace"] == "ai-assets-claims"
    ]
    (container,) = code["spec"]["template"]["spec"]["containers"]
    assert {"name": "AI_ASSETS_TENANT", "value": "claims"} in container["env"]
    secrets = [each["secretRef"]["name"] for each in container["envFrom"] if "secretRef" in each]
    assert secrets == ["ai-assets-claims-secrets"]
    context = yaml.safe_load(container["args"][-1])["k8s"]
    assert (context["namespace"], context["env_secrets"]) == ("ai-assets-claims", secrets)
    (config,) = [each for each in objects if each["metadata"]["name"] == "dagster-instance"]
    launcher = yaml.safe_load(config["data"]["dagster.yaml"])["run_launcher"]["config"]
    assert launcher["env_secrets"] == []


def test_only_what_starts_pods_has_a_token(objects: list[dict[str, Any]]) -> None:
    with_token = {pod["containers"][0]["name"] for _, pod in pods_in(objects) if pod["automountServiceAccountToken"]}
    assert with_token == {"ai-assets-web", "ai-assets-daemon"}
    for role in (each for each in objects if each["kind"] == "Role"):
        asked = {(resource, verb) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]}
        assert not {"*", "secrets"} & {part for pair in asked for part in pair}


def test_pods_are_probed_for_life_and_for_work_apart(objects: list[dict[str, Any]]) -> None:
    """A desk whose database is away must get no requests, and must not be killed for it."""
    (desk,) = (pod["containers"][0] for _, pod in pods_in(objects) if pod["containers"][0]["name"] == "ai-assets-desk")
    paths = {name: desk[f"{name}Probe"]["httpGet"]["path"] for name in ("liveness", "readiness", "startup")}
    assert paths == {"liveness": HEALTH, "readiness": READY, "startup": HEALTH}
    for _, pod in pods_in(objects):
        (container,) = pod["containers"]
        if container["name"] != "ai-assets-migrate":
            assert "livenessProbe" in container, container["name"]
        assert ("readinessProbe" in container) == ("ports" in container), (
            "what nobody asks needs to be ready for nobody"
        )


def test_the_desk_is_scaled_by_its_own_load_where_somebody_scrapes(sample: Mapping[str, str]) -> None:
    (desk,) = (
        each for each in yaml.safe_load_all(sample["base/autoscaling.yaml"]) if "desk" in each["metadata"]["name"]
    )
    kinds = {metric["type"]: metric for metric in desk["spec"]["metrics"]}
    assert set(kinds) == {"Resource", "Pods"}
    assert kinds["Pods"]["pods"]["metric"]["name"] == AT_ONCE
    (policy,) = (
        each for each in yaml.safe_load_all(sample["base/network.yaml"])
        if each["metadata"]["name"] == "ai-assets-desk-is-scraped"
    )  # fmt: skip
    ((entrance,),) = (rule["from"] for rule in policy["spec"]["ingress"])
    assert entrance["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "monitoring"}


def test_the_custom_resource_names_what_is_there(sample: Mapping[str, str], objects: list[dict[str, Any]]) -> None:
    (monitor,) = yaml.safe_load_all(sample["monitoring/service-monitor.yaml"])
    (scrape,) = monitor["spec"]["endpoints"]
    (service,) = (
        each for each in objects if each["kind"] == "Service" and each["metadata"]["name"] == "ai-assets-desk"
    )
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert scrape["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert (scrape["path"], scrape["honorLabels"]) == (METRICS, True)
    (desk,) = (pod["containers"][0] for _, pod in pods_in(objects) if pod["containers"][0]["name"] == "ai-assets-desk")
    assert {"secretRef": {"name": scrape["authorization"]["credentials"]["name"]}} in desk["envFrom"]
    assert scrape["authorization"]["credentials"]["key"] == DeskSettings().metrics.token_env
    assert not any("monitoring" in yaml.safe_load(sample[f"overlays/{each}/kustomization.yaml"])["resources"]
                   for each in ("production", "trial"))  # fmt: skip


def test_where_nobody_scrapes_nothing_is_there_for_it() -> None:
    cluster = cluster_in(REPOSITORY / "deploy" / "operations.yaml").model_copy(update={"monitoring_namespace": None})
    found = rendered(plan_of([load_collection(REPOSITORY / "collections", name) for name in SAMPLES], cluster, []))
    assert not [path for path in found if path.startswith("monitoring")]
    assert "Pods" not in found["base/autoscaling.yaml"]
    assert "ai-assets-metrics" not in found["base/desk.yaml"]
    assert "is-scraped" not in found["base/network.yaml"]


def declare(project: Project, **compute: Any) -> Collection:
    project.documents(per_day=1)
    (project.root / "operations.yaml").write_text("cluster: {image: 'r/i:1', gpu_types: {a100: {}}}\n")
    return project.declare(stages=[{**STAGE, "compute": compute}], tenant="acme")


@pytest.mark.parametrize(
    ("compute", "quota", "said"),
    [
        ({"memory": "8Gi"}, {"memory": "8Gi"}, r"8Gi of memory, and step 'kind' of .* asks for 8Gi \(beside"),
        ({"cpu": 4}, {"cpu": 2}, "allows 2 of cpu, and step 'kind' of collection 'notes' asks for 4"),
        ({"gpu": {"count": 2, "type": "a100"}}, {"gpus": 1}, r"allows 1 of GPUs, .* asks for 2.*cluster\.quota\.gpus"),
    ],
)  # fmt: skip
def test_a_quota_that_the_largest_pod_does_not_fit_in_is_refused(
    project: Project, compute: dict[str, Any], quota: dict[str, Any], said: str
) -> None:
    collection = declare(project, **compute)
    cluster = ClusterSettings.model_validate({"image": "r/i:1", "gpu_types": {"a100": {}}, "quota": quota})
    with pytest.raises(QuotaTooSmall, match=said):
        plan_of([collection], cluster, [])


def test_a_namespace_for_a_tenant_without_collections_is_refused(project: Project) -> None:
    collection = declare(project)
    cluster = ClusterSettings.model_validate({"image": "r/i:1", "tenants": {"acne": {"namespace": "acne"}}})
    with pytest.raises(TenantsLeftOut, match=r"that no collection has: acne.*are of: acme"):
        plan_of([collection], cluster, [])


def test_the_command_writes_checks_and_cleans_up(project: Project) -> None:
    declare(project, memory="3Gi", gpu={"count": 1, "type": "a100"})
    (project.root / "operations.yaml").write_text(
        "cluster: {image: 'r/i:1', gpu_types: {a100: {}}, tenants: {acme: {namespace: a, quota: {gpus: 1}}}}\n"
    )
    made = project.cli("deploy", "render", "out")
    assert made.returncode == 0, made.stderr
    before = {path: path.read_bytes() for path in (project.root / "out").rglob("*.yaml")}
    again = project.cli("deploy", "render", "out")
    assert " 0 changed" in again.stdout
    assert before == {path: path.read_bytes() for path in before}
    assert project.cli("deploy", "render", "out", "--check").returncode == 0
    (project.root / "operations.yaml").write_text(
        "cluster: {image: 'r/i:2', gpu_types: {a100: {}}, quota: {gpus: 1}}\n"
    )
    different = project.cli("deploy", "render", "out", "--check")
    assert different.returncode == 2
    assert "tenants/acme/rbac.yaml is rendered no more" in different.stderr or "; ..." in different.stderr
    assert project.cli("deploy", "render", "out").returncode == 0
    assert not list((project.root / "out/tenants").rglob("*.yaml"))


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "deploy").write_text("a file of somebody's")
    with pytest.raises(
        RenderingUnwritable, match=r"cannot be written to .*deploy: .*Name a folder that can be written"
    ):
        write(tmp_path / "deploy", {"base/x.yaml": "a: 1\n"})


def test_a_mistake_anywhere_in_operations_yaml_is_said_instead_of_rendered(project: Project) -> None:
    project.declare(stages=[])
    (project.root / "operations.yaml").write_text("environment: clustre\nclusterr: {}\n")
    done = project.cli("deploy", "render")
    assert done.returncode == 2
    assert "should be 'local', 'server' or 'cluster' (found 'clustre')" in done.stderr
    assert "unknown key 'clusterr'; did you mean 'cluster'?" in done.stderr
    assert not (project.root / "deploy").exists()


def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "mine.yaml").write_text("kind: Mine\n")
    write(tmp_path, {"base/ours.yaml": "kind: Ours\n"})
    assert sorted(path.name for path in (tmp_path / "base").iterdir()) == ["mine.yaml", "ours.yaml"]
    with pytest.raises(RenderingDiffers, match=r"base/ours\.yaml differs from line 2 on"):
        refuse_different(tmp_path, {"base/ours.yaml": "kind: Ours\nmore: 1\n"})


def test_the_code_location_of_the_deployment_loads_nothing_of_a_tenant_with_a_namespace(project: Project) -> None:
    """Else its runs would also be started there, with secrets and quota of the deployment."""
    found = [project.declare(name, tenant=tenant) for name, tenant in {"a": "acme", "b": "ops", "c": "default"}.items()]
    cluster = ClusterSettings.model_validate({"image": "r/i:1", "tenants": {"acme": {"namespace": "acme"}}})
    plan = plan_of(found, cluster, [])
    assert {each.name: each.serves for each in plan.namespaces} == {"ai-assets": ("default", "ops"), "acme": ("acme",)}
    pods = dict(pods_in(list(objects_in(rendered(plan)))))
    assert {"name": "AI_ASSETS_TENANT", "value": "acme"} in pods["acme"]["containers"][0]["env"]
    codes = [pod["containers"][0] for _, pod in pods_in(list(objects_in(rendered(plan))))]
    (own,) = [each for each in codes if each["name"] == "ai-assets-code" and "acme" not in str(each["env"])]
    assert {"name": "AI_ASSETS_TENANT", "value": "default,ops"} in own["env"]
    assert "AI_ASSETS_TENANT=default,ops" in own["args"][-1]
    (alone,) = plan_of(found, ClusterSettings(image="r/i:1"), []).namespaces
    assert alone.serves == ()
