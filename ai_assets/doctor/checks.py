"""All that is looked at, in the order in which it is told. A further check is a file and a line here."""

from ai_assets.doctor import (
    bucket,
    budgets,
    cluster,
    code,
    daemon,
    database,
    declarations,
    disk,
    endpoints,
    home,
    programs,
    secret_files,
    versions,
)
from ai_assets.doctor.examination import Check

CHECKS = (
    Check(name="home", title="home", look=home.look),
    Check(name="versions", title="versions", look=versions.look),
    Check(name="declarations", title="declarations", look=declarations.look, patience=2),
    Check(name="code", title="code locations", look=code.look, patience=code.PATIENCE),
    Check(name="database", title="state store", look=database.look),
    Check(name="bucket", title="bucket", look=bucket.look),
    Check(name="disk", title="disk", look=disk.look),
    Check(name="daemon", title="daemons, sensors and schedules", look=daemon.look),
    Check(name="secrets", title="keys", look=secret_files.look),
    Check(name="endpoints", title="endpoints", look=endpoints.look),
    Check(name="budgets", title="budgets", look=budgets.look),
    Check(name="cluster", title="cluster", look=cluster.look),
    Check(name="programs", title="packages and programs", look=programs.look),
)
