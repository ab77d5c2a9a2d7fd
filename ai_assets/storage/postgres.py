"""How PostgreSQL is reached: what every connection of ours and of Dagster's is told."""

from typing import Any

import sqlalchemy as sa

CONNECT_TIMEOUT_S = 10
"""A host that does not answer at all, instead of the minutes that the system waits."""


def is_postgres(url: sa.URL) -> bool:
    return url.drivername.partition("+")[0] in ("postgresql", "postgres")


def parameters(url: sa.URL, program: str = "ai-assets") -> dict[str, Any]:
    """Of libpq; what the address says itself goes first. A server that has gone is noticed within a minute."""
    told = {
        "application_name": program,
        "connect_timeout": CONNECT_TIMEOUT_S,
        "keepalives_idle": 20,
        "keepalives_interval": 10,
        "keepalives_count": 3,
    }
    return {name: value for name, value in told.items() if name not in url.query}


def address_for(url: sa.URL, driver: str, program: str = "ai-assets") -> sa.URL:
    """The address with all of that, for another program's engine."""
    told = {name: str(value) for name, value in parameters(url, program).items()}
    return url.set(drivername=f"postgresql+{driver}").update_query_dict(told)
