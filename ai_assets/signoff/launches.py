"""Who started a run, as far as it is proved: a signed ticket in the run's tags, bound to what it starts.

A ticket is signed with the decision key where a person was proved, and with the recorder key where the installation
itself starts runs (schedule, sensors, the first run of `ai-assets up`). Whatever else a tag says is believed of nobody.
"""

import datetime
import json
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import sqlalchemy as sa

from ai_assets.signoff import authority, keys
from ai_assets.signoff.audit_errors import AuditBroken, AuditKeyUnusable, KeyNotHeld, KeysMissing, SignatureInvalid
from ai_assets.storage.digest import Json, canonical_json, digest
from ai_assets.storage.state import now

TICKET_TAG = "ai_assets/launch"
Kind = Literal["person", "schedule", "sensor", "up"]
Proof = Literal["password", "token", "desk", "proxy", "itself"]
KEY_OF: Mapping[Proof, keys.Kind] = {
    "password": "decision", "token": "decision", "desk": "decision", "proxy": "recorder", "itself": "recorder",
}  # fmt: skip
"""What a ticket is signed with. `proxy` is Dagster's web server, which holds no decision key."""
KINDS_OF: Mapping[Proof, tuple[Kind, ...]] = {
    "password": ("person",), "token": ("person",), "desk": ("person",), "proxy": ("person",),
    "itself": ("schedule", "sensor", "up"),
}  # fmt: skip
PROVED: Mapping[Proof, str] = {
    "password": "with their password",
    "token": "with a token",
    "desk": "at the desk",
    "proxy": "in Dagster, as the proxy in front of it says",
}
RUN_VALID, BACKFILL_VALID = datetime.timedelta(days=1), datetime.timedelta(days=30)
"""How long after its launch a run may begin; the runs of a backfill may wait for each other."""
FORMAT = 1
NO_KEY = (KeyNotHeld, KeysMissing, AuditKeyUnusable)
"""Why a process cannot sign a ticket."""
_PURPOSE = "ai-assets launch ticket"
NO_TICKET = (
    "the run carries no launch ticket: it was started in Dagster's pages, or by a command for which nobody was named"
)


@dataclass(frozen=True, kw_only=True)
class Launcher:
    """Who starts a run, and how that is proved."""

    kind: Kind
    who: str
    """A person's name, or the name of the schedule or sensor."""
    proof: Proof


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What is known of how a run was started; it goes into what people are asked to sign."""

    kind: Kind | Literal["unknown"] = "unknown"
    who: str = ""
    proof: str = ""
    changes: tuple[str, ...] = ()
    """What the launcher changed for this run alone."""
    why: str = NO_TICKET
    """Of an unknown one: what was found instead of a proof."""

    @classmethod
    def of(cls, launcher: Launcher, changes: Iterable[str] = ()) -> Self:
        return cls(kind=launcher.kind, who=launcher.who, proof=launcher.proof, changes=tuple(changes), why="")

    @classmethod
    def unknown(cls, why: str) -> Self:
        return cls(why=why)

    @classmethod
    def told(cls, data: Any) -> Self:
        """As a request's summary says it; of a request made by an earlier version, nothing is known."""
        if not isinstance(data, Mapping):
            return cls(why="an earlier version made the request, and recorded no proof of who started the run")
        try:
            return cls(**{**data, "changes": tuple(data["changes"])})
        except (TypeError, KeyError):
            return cls(why="what the request says of who started the run cannot be read")

    def as_data(self) -> dict[str, Json]:
        return {**asdict(self), "changes": list(self.changes)}

    @property
    def known(self) -> bool:
        return self.kind != "unknown"

    @property
    def in_words(self) -> str:
        """Who, and how it is proved."""
        match self.kind:
            case "person":
                changed = f", with changes of their own ({', '.join(self.changes)})" if self.changes else ""
                return f"{self.who}, {next(said for name, said in PROVED.items() if name == self.proof)}{changed}"
            case "schedule":
                return f"the schedule {self.who}"
            case "sensor":
                return f"the sensor {self.who}"
            case "up":
                return "ai-assets up, as the first run of a new home"
            case _:
                return f"unknown: {self.why}"


@dataclass(frozen=True, kw_only=True)
class LaunchTicket:
    kind: Kind
    who: str
    proof: Proof
    collection: str
    partitions: str
    """Digest of their sorted names."""
    backfill: str
    """The backfill whose runs it covers; empty for one run."""
    run_id: str
    """The run it is for, where that was known before it started."""
    changes: tuple[str, ...]
    nonce: str
    at: str
    until: str

    def signed_data(self, chain: str) -> bytes:
        data = {**asdict(self), "changes": list(self.changes)}
        return f"{_PURPOSE}\n{chain}\n{canonical_json({**data, 'format': FORMAT})}".encode()


def partitions_digest(partitions: Iterable[str]) -> str:
    return digest(sorted(partitions))


def issue(
    connection: sa.Connection,
    launcher: Launcher,
    *,
    collection: str,
    partitions: Sequence[str],
    backfill: str = "",
    run_id: str = "",
    changes: Sequence[str] = (),
    nonce: str | None = None,
) -> dict[str, str]:
    """Tags for the run, or the runs of the backfill, by which it is known who started them.

    Raises where this process does not hold the key that it takes.
    """
    at = datetime.datetime.now(datetime.UTC)
    ticket = LaunchTicket(
        kind=launcher.kind,
        who=launcher.who,
        proof=launcher.proof,
        collection=collection,
        partitions=partitions_digest(partitions),
        backfill=backfill,
        run_id=run_id,
        changes=tuple(changes),
        nonce=nonce or secrets.token_hex(16),
        at=at.isoformat(timespec="milliseconds"),
        until=(at + (BACKFILL_VALID if backfill else RUN_VALID)).isoformat(timespec="milliseconds"),
    )
    ring = keys.of(connection)
    signed = ring.sign(KEY_OF[launcher.proof], ticket.signed_data(ring.trust.chain))
    data = {**asdict(ticket), "changes": list(ticket.changes), **vars(signed), "format": FORMAT}
    return {TICKET_TAG: canonical_json(data)}


def issued_or_said(
    connection: sa.Connection,
    launcher: Launcher,
    say: Callable[[str], None],
    *,
    collection: str,
    partitions: Sequence[str],
) -> dict[str, str]:
    """The same for the installation's own runs: without a key they start all the same, and their author is unknown."""
    try:
        return issue(connection, launcher, collection=collection, partitions=partitions)
    except NO_KEY as error:
        say(f"The run starts without a launch ticket, so its author will be unknown. {error}")
        return {}


def read(connection: sa.Connection, tags: Mapping[str, str]) -> LaunchTicket | str:
    """The ticket in the tags, if this installation signed it; else why not, in words."""
    text = tags.get(TICKET_TAG)
    if text is None:
        return NO_TICKET
    try:
        data = json.loads(text)
        key_id, signature, version = (data.pop(name) for name in ("key_id", "signature", "format"))
        ticket = LaunchTicket(**{**data, "changes": tuple(data["changes"])})
        fits = version == FORMAT and ticket.kind in KINDS_OF[ticket.proof]
        kinds = (KEY_OF[ticket.proof],)
    except (ValueError, TypeError, KeyError, AttributeError):
        return f"the tag {TICKET_TAG} is no launch ticket"
    if not fits:
        return f"the tag {TICKET_TAG} is no launch ticket that this version can read"
    last: int = connection.execute(sa.text("SELECT COALESCE(MAX(seq), 0) FROM audit")).scalar_one()
    try:
        found = authority.of(connection)
        chain = found.trust.chain if found.trust else ""
        found.check(kinds, str(key_id), last + 1, ticket.signed_data(chain), str(signature))
    except (SignatureInvalid, AuditBroken) as error:
        return f"its launch ticket does not count ({str(error).rstrip('.')})"
    return ticket


def of_run(
    connection: sa.Connection,
    *,
    tags: Mapping[str, str],
    collection: str,
    partitions: Sequence[str],
    run_id: str,
    proxy_declared: Callable[[], bool],
) -> Launch:
    """Who started this run. Needs a write transaction: the first run to take a partition uses the ticket for it up."""
    ticket = read(connection, tags)
    if isinstance(ticket, str):
        return Launch.unknown(ticket)
    problem = _why_not(connection, ticket, collection, partitions, run_id, proxy_declared)
    if problem is None:
        problem = _used_before(connection, ticket, partitions, run_id)
    if problem is not None:
        return Launch.unknown(problem)
    return Launch.of(Launcher(kind=ticket.kind, who=ticket.who, proof=ticket.proof), ticket.changes)


def _why_not(
    connection: sa.Connection,
    ticket: LaunchTicket,
    collection: str,
    partitions: Sequence[str],
    run_id: str,
    proxy_declared: Callable[[], bool],
) -> str | None:
    """Why a good ticket is not one for this run."""
    by = f"its launch ticket is of a run that {ticket.who} started"
    if ticket.collection != collection:
        return f"{by} in {ticket.collection}"
    if ticket.run_id and ticket.run_id != run_id:
        return f"{by} before; somebody started it again in Dagster"
    if now() > ticket.until and not _taken_up(connection, ticket, run_id):
        return f"{by}, and ran out at {ticket.until[:16]} (UTC)"
    if ticket.proof == "proxy" and not proxy_declared():
        return f"{by} through a proxy, and desk.yaml declares none"
    if ticket.backfill:
        row = connection.execute(
            sa.text("SELECT partitions FROM backfills WHERE backfill = :name"), {"name": ticket.backfill}
        ).one_or_none()
        covered = json.loads(row.partitions) if row is not None else []
        if partitions_digest(covered) != ticket.partitions or not set(partitions) <= set(covered):
            return f"its launch ticket is of {ticket.backfill}, and not for these partitions"
    elif partitions_digest(partitions) != ticket.partitions:
        return f"{by} for other partitions"
    return None


def _taken_up(connection: sa.Connection, ticket: LaunchTicket, run_id: str) -> bool:
    """By an earlier step of this very run, in time."""
    query = sa.text("SELECT 1 FROM launch_uses WHERE nonce = :nonce AND run_id = :run")
    return connection.execute(query, {"nonce": ticket.nonce, "run": run_id}).first() is not None


def _used_before(connection: sa.Connection, ticket: LaunchTicket, partitions: Sequence[str], run_id: str) -> str | None:
    """A step that is tried again in the same run is no repetition; the same work in another run is one."""
    gone = datetime.datetime.now(datetime.UTC) - BACKFILL_VALID
    connection.execute(
        sa.text("DELETE FROM launch_uses WHERE used_at < :gone"), {"gone": gone.isoformat(timespec="milliseconds")}
    )
    query = sa.text("SELECT run_id FROM launch_uses WHERE nonce = :nonce AND partition IN :partitions").bindparams(
        sa.bindparam("partitions", type_=sa.Text, expanding=True)
    )
    taken: set[str] = set()
    for start in range(0, len(partitions), _AT_ONCE):
        given = {"nonce": ticket.nonce, "partitions": list(partitions[start : start + _AT_ONCE])}
        taken.update(connection.execute(query, given).scalars())
    if taken - {run_id}:
        return (
            f"its launch ticket was used by run {min(taken - {run_id})[:8]}, which {ticket.who} started; somebody "
            "started it again in Dagster, and Dagster does not say who"
        )
    if not taken:
        rows = [{"nonce": ticket.nonce, "partition": key, "run": run_id, "at": now()} for key in partitions]
        insert = "INSERT INTO launch_uses (nonce, partition, run_id, used_at) VALUES (:nonce, :partition, :run, :at)"
        connection.execute(sa.text(insert), rows)
    return None


_AT_ONCE = 500
