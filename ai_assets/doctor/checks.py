"""All that is looked at, in the order in which it is told. A further check is a file and a line here."""

from ai_assets.doctor import (
    bucket,
    budgets,
    canary,
    cluster,
    code,
    contracts,
    daemon,
    dagster_tables,
    database,
    declarations,
    disk,
    endpoints,
    home,
    outside_listeners,
    programs,
    secret_files,
    tls,
    versions,
)
from ai_assets.doctor.examination import HealthCheck

CHECKS = (
    HealthCheck(name="home", title="home", look=home.look),
    HealthCheck(name="versions", title="versions", look=versions.look),
    HealthCheck(name="declarations", title="declarations", look=declarations.look, patience=2),
    HealthCheck(name="code", title="code locations", look=code.look, patience=code.PATIENCE),
    HealthCheck(name="database", title="state store", look=database.look),
    HealthCheck(name="contracts", title="contracts", look=contracts.look),
    HealthCheck(name="bucket", title="bucket", look=bucket.look),
    HealthCheck(name="disk", title="disk", look=disk.look),
    HealthCheck(name="daemon", title="daemons, sensors and schedules", look=daemon.look),
    HealthCheck(name="dagster", title="Dagster's tables", look=dagster_tables.look, patience=dagster_tables.PATIENCE),
    HealthCheck(name="secrets", title="keys", look=secret_files.look),
    HealthCheck(name="endpoints", title="endpoints", look=endpoints.look),
    HealthCheck(name="certificates", title="TLS certificates", look=tls.look),
    HealthCheck(name="canaries", title="canaries", look=canary.look),
    HealthCheck(name="budgets", title="budgets", look=budgets.look),
    HealthCheck(name="cluster", title="cluster", look=cluster.look),
    HealthCheck(name="listeners", title="telemetry and lineage", look=outside_listeners.look),
    HealthCheck(name="programs", title="packages and programs", look=programs.look),
)
