"""Values for the official Helm chart of Dagster, for whoever runs that already. They are not validated by us."""

from ai_assets.base.home import SEVERAL_VARIABLE, TENANT_VARIABLE
from ai_assets.deploy.plan import CODE_PORT, DeployedNamespace, DeploymentPlan
from ai_assets.deploy.shared_files import LAUNCHER_ACCOUNT, container_context, location_name
from ai_assets.deploy.yaml_text import RenderedFile
from ai_assets.orchestration.cluster.launcher_config import launcher_config

_COMMENT = (
    "NOT VALIDATED: no chart was at hand when this was written, and no test renders it. Compare it with the\n"
    "values.schema.json of your version of the chart before you use it. The chart brings Dagster's pages, daemon\n"
    "and code locations; namespaces, quotas, priorities, RBAC, network policies, the desk and the migration are\n"
    "still those of base/ and tenants/. Its own PostgreSQL stays off: AI_ASSETS_STATE_URL says where it is."
)


def helm_values(plan: DeploymentPlan) -> RenderedFile:
    launcher = launcher_config(plan.cluster, plan.project, with_secrets=False)
    values = {
        "postgresql": {"enabled": False},
        "rabbitmq": {"enabled": False},
        "serviceAccount": {"create": False, "name": LAUNCHER_ACCOUNT},
        "runLauncher": {
            "type": "CustomRunLauncher",
            "config": {"customRunLauncher": {key: launcher[key] for key in ("module", "class", "config")}},
        },
        "dagsterDaemon": {"runMonitoring": {"enabled": True, "maxResumeRunAttempts": plan.cluster.retries}},
        "dagster-user-deployments": {
            "enabled": True,
            "deployments": [_deployment(plan, each) for each in plan.with_code],
        },
    }
    return RenderedFile(path="helm/values.yaml", objects=(values,), comment=_COMMENT)


def _deployment(plan: DeploymentPlan, namespace: DeployedNamespace) -> dict[str, object]:
    image, _, tag = plan.image.rpartition(":")
    own = {TENANT_VARIABLE: ",".join(namespace.serves)} if namespace.serves else {}
    several = {SEVERAL_VARIABLE: "yes"} if len(plan.with_code) > 1 else {}
    variables = {"AI_ASSETS_ENVIRONMENT": "cluster", "AI_ASSETS_HOME": plan.cluster.home, **several, **own}
    context = container_context(plan, namespace)
    return {
        "name": location_name(namespace).replace("_", "-"),
        "image": {
            "repository": image or plan.image,
            "tag": tag if image else "latest",
            "pullPolicy": plan.cluster.image_pull_policy,
        },
        "dagsterApiGrpcArgs": [*plan.definitions, "--container-context", context],
        "port": CODE_PORT,
        "env": [{"name": key, "value": value} for key, value in variables.items()],
        "envSecrets": [{"name": each} for each in namespace.secrets],
        "envConfigMaps": [{"name": each} for each in plan.cluster.config_maps],
    }
