"""What PostgreSQL says when it refuses, in one sentence with what to do; the server's own words where none fits."""

import sqlalchemy as sa

READ_ONLY = "25006"
NO_RIGHT = "42501"
_BY_STATE = {
    READ_ONLY: "it is read-only (a replica, or set so): give the address of the primary",
    "53100": "its disk is full: free some space there",
    "53300": "it has no connection left: see `connections` (docs/server.md), or raise max_connections there",
    "57014": "it cancelled a statement that took longer than its statement_timeout allows",
    "25P03": "it ended a transaction of this process, which had paused too long within it",
}
_WHILE_CONNECTING = (
    ("password authentication failed", "it refuses the user or the password"),
    ("no password supplied", "it asks for a password, and the address has none"),
    ("pg_hba.conf", "it lets nobody in from here with this user, database and encryption (pg_hba.conf)"),
    ("does not exist", "{words}: make it, or mend the address"),
    ("permission denied for database", "the user may not connect to this database: GRANT CONNECT"),
    ("too many clients", _BY_STATE["53300"]),
    ("remaining connection slots", _BY_STATE["53300"]),
    ("too many connections", _BY_STATE["53300"]),
    ("starting up", "it is starting up: try again in a moment"),
    ("shutting down", "it is shutting down: try again when it is back"),
    ("recovery mode", "it is recovering: try again in a moment"),
    ("Connection refused", "nothing answers at that host and port"),
    ("timeout expired", "it does not answer in time"),
    ("timed out", "it does not answer in time"),
    ("translate host name", "that host name is not known here"),
    ("Name or service not known", "that host name is not known here"),
    ("failed to resolve", "that host name is not known here"),
    ("invalid connection option", "the address has a parameter that PostgreSQL does not know ({words})"),
    ("certificate", "the certificates do not fit ({words})"),
)


_LASTING = ("password", "pg_hba.conf", "does not exist", "permission denied", "connection option", "certificate")


def of_driver(error: BaseException) -> BaseException:
    """What the driver raised, also where SQLAlchemy has wrapped it."""
    return (isinstance(error, sa.exc.DBAPIError) and error.orig) or error


def state_of(error: BaseException) -> str | None:
    """The five characters by which PostgreSQL names an error."""
    found = of_driver(error)
    return getattr(found, "sqlstate", None) or getattr(found, "pgcode", None)


def is_refusal(error: BaseException) -> bool:
    """Whether it is about rights or a read-only server: somebody must change that, and it is no mistake of ours."""
    return state_of(error) in (READ_ONLY, NO_RIGHT)


def is_lock_timeout(error: BaseException) -> bool:
    return state_of(error) in ("55P03", "40P01")


def may_pass(error: BaseException) -> bool:
    """Whether a server that refuses so may let us in a little later: it restarts, or has no connection left."""
    said = str(of_driver(error))
    return not any(part in said for part in _LASTING)


def found_in(error: BaseException) -> str:
    """In a few words, without a password."""
    words = _words(error)
    code = state_of(error)
    if code == NO_RIGHT:
        return f"the user lacks a right there ({words}): GRANT it, see docs/server.md"
    if code in _BY_STATE:
        return _BY_STATE[code]
    said = " ".join(str(of_driver(error)).split())
    for part, meaning in _WHILE_CONNECTING:
        if part in said:
            return meaning.format(words=words)
    return words


def _words(error: BaseException) -> str:
    found = of_driver(error)
    lines = str(found).splitlines() or [type(found).__name__]
    return lines[0].rpartition("FATAL:")[2].strip()
