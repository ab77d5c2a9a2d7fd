"""What there is once: priorities, Dagster's pages and daemon, the desk, the migration of the databases."""

import json
from collections.abc import Iterator
from typing import Any

from ai_assets.base.home import DAGSTER_URL_VARIABLE, SEVERAL_VARIABLE, TENANT_VARIABLE
from ai_assets.deploy.objects import (
    Object,
    account,
    deployment,
    disruption_budget,
    pod,
    selecting,
    service,
    thing,
)
from ai_assets.deploy.plan import CODE_PORT, DESK_PORT, WEB_PORT, DeployedNamespace, DeploymentPlan
from ai_assets.deploy.yaml_text import RenderedFile, dumped
from ai_assets.desk.machine_paths import HEALTH, METRICS, READY
from ai_assets.orchestration.cluster.launcher_config import launcher_config
from ai_assets.orchestration.instance import instance_settings

CODE, WEB, DAEMON, DESK, MIGRATE = (
    "ai-assets-code",
    "ai-assets-web",
    "ai-assets-daemon",
    "ai-assets-desk",
    "ai-assets-migrate",
)
LAUNCHER_ACCOUNT, SERVE_ACCOUNT = "ai-assets-launcher", "ai-assets-serve"
DESK_SECRETS, METRICS_SECRET = "ai-assets-desk-secrets", "ai-assets-metrics"
METRICS_TOKEN = "AI_ASSETS_METRICS_TOKEN"
AT_ONCE = "ai_assets_desk_requests_at_once"
"""What prometheus-adapter makes of the desk's own figures: deploy/observability/prometheus-adapter.yaml."""
WORKSPACE = "ai-assets-workspace"
WORKSPACE_PATH = "/ai-assets/workspace/workspace.yaml"


def shared_files(plan: DeploymentPlan) -> Iterator[RenderedFile]:
    yield RenderedFile(path="base/priority-classes.yaml", objects=tuple(_priority_classes(plan)), comment=_PRIORITIES)
    yield RenderedFile(path="base/config.yaml", objects=tuple(_configuration(plan)), comment=_CONFIGURATION)
    yield RenderedFile(path="base/webserver.yaml", objects=tuple(_webserver(plan)), comment=_WEBSERVER)
    yield RenderedFile(path="base/daemon.yaml", objects=tuple(_daemon(plan)), comment=_DAEMON)
    yield RenderedFile(path="base/desk.yaml", objects=tuple(_desk(plan)), comment=_DESK)
    yield RenderedFile(path="base/migrate.yaml", objects=(_migrate(plan),), comment=_MIGRATE)
    comment = _BY_PROCESSOR if plan.cluster.monitoring_namespace is None else _BY_LOAD
    yield RenderedFile(path="base/autoscaling.yaml", objects=tuple(_autoscalers(plan)), comment=comment)
    if plan.cluster.monitoring_namespace is not None:
        yield RenderedFile(
            path="monitoring/service-monitor.yaml", objects=(_service_monitor(plan),), comment=_MONITORING
        )


def dagster_yaml(plan: DeploymentPlan) -> str:
    settings = instance_settings(
        plan.cluster.max_concurrent_runs,
        behind_proxy=plan.behind_proxy,
        in_postgres=True,
        launcher=launcher_config(plan.cluster, plan.project, with_secrets=False),
        resumes=plan.cluster.retries,
    )
    return dumped(settings)


def code_host(namespace: DeployedNamespace) -> str:
    return f"{CODE}.{namespace.name}.svc"


def location_name(namespace: DeployedNamespace) -> str:
    return namespace.tenant or "definitions"


def _configuration(plan: DeploymentPlan) -> Iterator[Object]:
    namespace = plan.home.name
    servers = [
        {"grpc_server": {"host": code_host(each), "port": CODE_PORT, "location_name": location_name(each)}}
        for each in plan.with_code
    ]
    yield thing(
        "v1", "ConfigMap", plan.cluster.instance_config_map, namespace, data={"dagster.yaml": dagster_yaml(plan)}
    )
    workspace = {"workspace.yaml": dumped({"load_from": servers})}
    yield thing("v1", "ConfigMap", WORKSPACE, namespace, data=workspace)


def environment(plan: DeploymentPlan, namespace: DeployedNamespace) -> Iterator[Object]:
    """ConfigMaps of variables that are no secret, empty for whoever fills them in an overlay."""
    several = {SEVERAL_VARIABLE: "yes"} if len(plan.with_code) > 1 else {}
    for name in plan.cluster.config_maps:
        yield thing("v1", "ConfigMap", name, namespace.name, data=dict(several))


def _priority_classes(plan: DeploymentPlan) -> Iterator[Object]:
    classes = plan.cluster.priority_classes
    ranks = (
        (classes.interactive, 100_000, "PreemptLowerPriority", "Somebody waits: pages, and runs of people"),
        (classes.normal, 10_000, "PreemptLowerPriority", "Runs of schedules and sensors"),
        (classes.batch, 1_000, "Never", "Backfills: they take what is left, and go on where they were"),
    )
    for name, value, preemption, description in ranks:
        yield thing(
            "scheduling.k8s.io/v1", "PriorityClass", name,
            value=value, globalDefault=False, preemptionPolicy=preemption, description=description,
        )  # fmt: skip


def _with_instance(plan: DeploymentPlan, *, workspace: bool = False) -> dict[str, tuple[str, str]]:
    found = {f"{plan.cluster.home}/dagster/dagster.yaml": (plan.cluster.instance_config_map, "dagster.yaml")}
    return found | ({WORKSPACE_PATH: (WORKSPACE, "workspace.yaml")} if workspace else {})


def _webserver(plan: DeploymentPlan) -> Iterator[Object]:
    namespace = plan.home.name
    arguments = ["dagster-webserver", "--host", "0.0.0.0", "--port", str(WEB_PORT), "--workspace", WORKSPACE_PATH]
    template = pod(
        plan, WEB, arguments, account=LAUNCHER_ACCOUNT, token=True, secrets=plan.home.secrets, port=WEB_PORT,
        probe={"httpGet": {"path": "/server_info", "port": "main"}}, files=_with_instance(plan, workspace=True),
    )  # fmt: skip
    yield deployment(WEB, namespace, template, replicas=None)
    yield service(WEB, namespace, WEB_PORT)
    yield disruption_budget(WEB, namespace)


def _daemon(plan: DeploymentPlan) -> Iterator[Object]:
    arguments = ["dagster-daemon", "run", "--workspace", WORKSPACE_PATH]
    template = pod(
        plan, DAEMON, arguments, account=LAUNCHER_ACCOUNT, token=True, secrets=plan.home.secrets,
        probe={"exec": {"command": ["dagster-daemon", "liveness-check"]}}, files=_with_instance(plan, workspace=True),
    )  # fmt: skip
    yield deployment(DAEMON, plan.home.name, template, recreate=True)


def _desk(plan: DeploymentPlan) -> Iterator[Object]:
    namespace = plan.home.name
    scraped = (METRICS_SECRET,) if plan.cluster.monitoring_namespace is not None else ()
    template = pod(
        plan, DESK, ["ai-assets", "desk", "--host", "0.0.0.0", "--port", str(DESK_PORT)],
        account=SERVE_ACCOUNT, secrets=(*plan.home.secrets, DESK_SECRETS, *scraped), port=DESK_PORT,
        environment={DAGSTER_URL_VARIABLE: f"http://{WEB}.{namespace}.svc:{WEB_PORT}"},
        probe={"httpGet": {"path": HEALTH, "port": "main"}}, ready=READY, files=_with_instance(plan),
    )  # fmt: skip
    yield deployment(DESK, namespace, template, replicas=None)
    yield service(DESK, namespace, DESK_PORT)
    yield disruption_budget(DESK, namespace)


def _migrate(plan: DeploymentPlan) -> Object:
    template = pod(
        plan, MIGRATE, ["ai-assets", "deploy", "migrate"], account=SERVE_ACCOUNT, secrets=plan.home.secrets,
        files=_with_instance(plan), restart="Never",
    )  # fmt: skip
    spec = {"backoffLimit": 3, "activeDeadlineSeconds": 3600, "ttlSecondsAfterFinished": 86_400, "template": template}
    return thing("batch/v1", "Job", MIGRATE, plan.home.name, spec=spec)


def _autoscalers(plan: DeploymentPlan) -> Iterator[Object]:
    for name, most in ((WEB, 3), (DESK, 4)):
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
        cpu: dict[str, Any] = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}
        metrics: list[Object] = [{"type": "Resource", "resource": cpu}]
        if name == DESK and plan.cluster.monitoring_namespace is not None:
            at_once = {"metric": {"name": AT_ONCE}, "target": {"type": "AverageValue", "averageValue": "4"}}
            metrics.append({"type": "Pods", "pods": at_once})
        spec = {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": most, "metrics": metrics}
        yield thing("autoscaling/v2", "HorizontalPodAutoscaler", name, plan.home.name, spec=spec)


def _service_monitor(plan: DeploymentPlan) -> Object:
    scrape = {
        "port": "main", "path": METRICS, "interval": "15s", "scrapeTimeout": "10s", "honorLabels": True,
        "authorization": {"type": "Bearer", "credentials": {"name": METRICS_SECRET, "key": METRICS_TOKEN}},
    }  # fmt: skip
    spec = {"selector": selecting(DESK), "endpoints": [scrape]}
    return thing("monitoring.coreos.com/v1", "ServiceMonitor", DESK, plan.home.name, spec=spec)


def accounts(plan: DeploymentPlan) -> Iterator[Object]:
    yield account(LAUNCHER_ACCOUNT, plan.home.name)
    yield account(SERVE_ACCOUNT, plan.home.name)


def container_context(plan: DeploymentPlan, namespace: DeployedNamespace) -> str:
    """What runs of a code location are started with where that is not as `cluster:` says, as dagster-k8s reads it."""
    tenant = [f"{TENANT_VARIABLE}={','.join(namespace.serves)}"] if namespace.serves else []
    own = {"namespace": namespace.name, "env_secrets": list(namespace.secrets), "env_vars": tenant}
    return json.dumps({"k8s": own})


_PRIORITIES = "A run's pod has the class of the run's priority, a step's that of its stage, else that of its run."
_CONFIGURATION = (
    "dagster.yaml, and where Dagster's pages and daemon find the code. No secret, and no address of a database."
)
_WEBSERVER = "Dagster's pages. They know no accounts: put a proxy that signs people in before them (docs/desk.md)."
_DAEMON = "Schedules, sensors, the queue of runs. There is never a second one."
_DESK = f"The sign-off desk. The Secret {DESK_SECRETS} holds what only it may have, such as AI_ASSETS_DECISION_KEY."
_MIGRATE = "Brings both databases to this version. Run it before the rest of a new version: docs/kubernetes.md."
_BY_PROCESSOR = "By processor. Where cluster.monitoring_namespace is set, the desk is scaled by its own load as well."
_BY_LOAD = (
    f"The desk by processor and by {AT_ONCE}, whichever asks for more: prometheus-adapter\n"
    "answers for it (deploy/observability/prometheus-adapter.yaml). While it does not, replicas are added by\n"
    "processor and none is taken away: install it before you set cluster.monitoring_namespace."
)
_MONITORING = (
    "A custom resource of the Prometheus operator, so in no overlay and not validated by us: apply this folder where\n"
    f"the operator runs. The Secret {METRICS_SECRET} holds {METRICS_TOKEN}, and nothing else."
)
