"""How many connections PostgreSQL has left, against how many we may open."""

from collections.abc import Iterator

import sqlalchemy as sa

from ai_assets.doctor.findings import Finding, fine, warned
from ai_assets.doctor.installation import Installation

PROCESSES = 5
"""Of `ai-assets up`, without runs."""
NEARLY = 0.9
_LIMITS = """SELECT current_setting('max_connections')::int
      - current_setting('superuser_reserved_connections')::int
      - coalesce(current_setting('reserved_connections', true), '0')::int AS most,
    (SELECT count(*) FROM pg_stat_activity WHERE datname IS NOT NULL) AS used,
    (SELECT count(*) FROM pg_stat_activity WHERE usename = current_user) AS by_role,
    (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user) AS of_role,
    (SELECT datconnlimit FROM pg_database WHERE datname = current_database()) AS of_database,
    pg_backend_pid() AS served_by"""


def connections(connection: sa.Connection, at: Installation) -> Iterator[Finding]:
    found = connection.execute(sa.text(_LIMITS)).one()
    declared, what = at.home.connections, "connections to the database"
    if found.served_by != connection.connection.driver_connection.info.backend_pid:  # type: ignore[union-attr]
        yield fine(what, "a pooler stands between: count its connections to the server, not those of our processes")
        return
    most = min([found.most, *(limit for limit in (found.of_role, found.of_database) if limit >= 0)])
    said = f"{found.used} of {most} are in use, {found.by_role} of them by this user"
    wanted = PROCESSES * declared
    if found.used >= NEARLY * most:
        yield Finding(
            level="error" if found.used >= most else "warning",
            looked_at=what,
            found=said,
            fix="Raise max_connections, lower `connections` in operations.yaml, or put a pooler between "
            "(docs/server.md#connections).",
        )
    elif wanted > most:
        yield warned(
            what,
            found=f"{said}, and {PROCESSES} processes of `ai-assets up` with {declared} each may open {wanted}",
            fix="Lower `connections` in operations.yaml, or raise the limit of the server, role or database.",
        )
    else:
        yield fine(
            what, f"{said}; {PROCESSES} processes with {declared} each may open {wanted}, and each run {declared}"
        )
