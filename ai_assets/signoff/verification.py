"""Proof that the trail is whole: the chain is walked, what it tells of is played again and held against the tables.

An export proves itself without the store: the records hold their own order, and its first line says how many there are.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from ai_assets.base.plural import plural
from ai_assets.inference.budget_sums import differences
from ai_assets.inference.prices import NUSD
from ai_assets.signoff import audit, gate_stops, keys
from ai_assets.signoff.audit import GENESIS, RECORD_COLUMNS, Record, release_record
from ai_assets.signoff.audit_errors import AuditBroken, ExportUnreadable
from ai_assets.signoff.authority import Authority, one_sided, password_digest
from ai_assets.storage.digest import Json, canonical_json, digest
from ai_assets.storage.state import StateStore, now

Key = TypeVar("Key", bound="tuple[Any, ...] | str")

EXPORT_FORMAT = 2
READABLE_FORMATS = (1, 2)
"""The first had no signatures."""
CLOSED_AS: Mapping[str, str] = {
    "approved": "approved",
    "rejected": "rejected",
    "sent back": "sent back",
    "voided": "void",
    "expired": "expired",
}
"""The status of a request after such a record."""
STEP_OF: Mapping[str, int] = {"reminded": 1, "escalated": 2}
CORRECTED = ("partition", "document_digest", "label", "was", "reason")
"""What the record of a correction says beside what names it."""
RATED = ("partition", "rating")
STOPPED = ("collection", "partition", "record")
LABELLED = ("partition", "document_digest", "answer", "label", "stratum", "inclusion", "sample", "origin", "note")
"""The same of a golden label."""

HOLD_DECIDED = (
    "partition", "seq", "decision", "label", "said", "document_digest", "answer_digest", "reason",
)  # fmt: skip
"""The same of a decision about a held document."""


@dataclass(frozen=True, kw_only=True)
class _Request:
    """A request as the chain tells of it; the names are those of the table's columns."""

    collection: str
    partition: str
    number: int
    digest: str
    summary: str
    """Its digest: people decide by it."""
    status: str = "open"
    sla_step: int = 0
    closed_by: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class VerificationResult:
    records: int
    head: str
    """Hash of the last record; note it elsewhere to prove later that nothing was cut off the end."""
    signed: int
    """So many of them are signed; the others are older than the keys."""


@dataclass
class _ChainState:
    """Everything the chain says there should be."""

    requests: dict[str, _Request] = field(default_factory=dict)
    published: dict[tuple[str, int], tuple[str, str]] = field(default_factory=dict)
    live: dict[str, int] = field(default_factory=dict)
    corrections: dict[tuple[str, str, str, int], dict[str, str | None]] = field(default_factory=dict)
    """By collection, stage, document and number."""
    labels: dict[tuple[Any, ...], dict[str, Any]] = field(default_factory=dict)
    """Golden labels, by collection, stage, document, author and number."""
    ratings: dict[tuple[Any, ...], dict[str, Any]] = field(default_factory=dict)
    """Of outputs that a judge rates, by collection, judge, document, output, author and number."""
    held: dict[tuple[Any, ...], dict[str, Any]] = field(default_factory=dict)
    """Decisions about held documents, by collection, stage, document, author and number."""
    limits: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Of budgets, where a person has set another than the declared one."""
    stops: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Candidates that a gate stopped, by digest."""
    canaries: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Changes of models that somebody took as the new baseline, by number."""


def verify(state: StateStore, walked: Callable[[int, int], None] = lambda _done, _of: None) -> VerificationResult:
    """Walk the chain, then hold the tables against it. Raises on the first mismatch."""
    with state.read() as connection:
        return verify_in(connection, walked)


def verify_in(
    connection: sa.Connection, walked: Callable[[int, int], None] = lambda _done, _of: None
) -> VerificationResult:
    total: int = connection.execute(sa.text("SELECT count(*) FROM audit")).scalar_one()
    known = Authority(keys.trust_of(connection))
    verified, told = _walk(audit.records(connection), known, lambda done: walked(done, total))
    _hold_requests(connection, told)
    _hold_releases(connection, told)
    _hold_people(connection, known)
    _hold_corrections(connection, told)
    _hold_labels(connection, told)
    _hold_ratings(connection, told)
    _hold_held(connection, told)
    _hold_limits(connection, told)
    _hold_canaries(connection, told)
    _hold_stops(connection, told)
    _hold_spending(connection)
    return verified


def require_sound(connection: sa.Connection, checkpoint: Record | None = None) -> None:
    """Raises `AuditBroken` unless every record follows from the one before and was signed by who may, then.

    `checkpoint` is the last record that a signed checkpoint stands for: up to there the links are checked, and the
    signatures that say who may decide.
    """
    known = Authority(keys.trust_of(connection), vouched=checkpoint.seq if checkpoint else 0)
    _walk(_ending_in(audit.records(connection), checkpoint), known)


def _ending_in(records: Iterable[Record], checkpoint: Record | None) -> Iterator[Record]:
    """The same records, which must have that one in its place."""
    for record in records:
        if checkpoint is not None and record.seq == checkpoint.seq and record.hash != checkpoint.hash:
            raise AuditBroken(record.name, "it is not the record that a checkpoint stands for")
        yield record


def export(connection: sa.Connection, records: Iterable[Record] | None = None) -> Iterator[str]:
    """JSON lines: a heading, then the records. A selection of them proves each record, but not what is between."""
    chosen = list(audit.records(connection) if records is None else records)
    head = chosen[-1].hash if chosen else GENESIS
    trust = keys.trust_of(connection)
    heading: dict[str, Json] = {"format": EXPORT_FORMAT, "records": len(chosen), "head": head}
    heading["trust"] = trust.as_data() if trust else None
    yield canonical_json({**heading, "whole": records is None, "exported_at": now()})
    for record in chosen:
        yield canonical_json({name: getattr(record, name) for name in RECORD_COLUMNS})


def verify_file(path: Path, believed: keys.Trust | None = None) -> VerificationResult:
    """An export of the whole chain, from the file alone. Without keys to believe, those that it names itself."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        heading = json.loads(lines[0]) if lines else {}
        if not isinstance(heading, dict) or heading.get("format") not in READABLE_FORMATS:
            raise ExportUnreadable(path, "its first line is not the heading of an export")
        told = heading.get("trust")
        trust = believed or (keys.Trust.of(told) if told else None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExportUnreadable(path, str(error)) from error
    if not heading.get("whole"):
        raise ExportUnreadable(path, "it holds a selection of the records, and only a whole chain can be verified")
    found = [_record(number, line) for number, line in enumerate(lines[1:], start=1)]
    verified, _ = _walk(found, Authority(trust))
    if (verified.records, verified.head) != (heading["records"], heading["head"]):
        raise AuditBroken(
            "the end", f"the heading promises {plural(heading['records'], 'record')}, and {verified.records} are there"
        )
    return verified


def _record(number: int, line: str) -> Record:
    try:
        return Record(**json.loads(line))
    except (ValueError, TypeError) as error:
        raise AuditBroken(f"number {number}", f"its line cannot be read ({error})") from error


def _walk(
    records: Iterable[Record], known: Authority, walked: Callable[[int], None] = lambda _done: None
) -> tuple[VerificationResult, _ChainState]:
    told, (count, previous) = _ChainState(), known.last
    for record in records:
        if record.seq != count + 1:
            raise AuditBroken(record.name, f"number {count + 1} is missing before it")
        if record.previous_hash != previous:
            raise AuditBroken(record.name, "it does not follow from the record before it")
        if record.computed_hash() != record.hash:
            raise AuditBroken(record.name, "its content is not what was recorded")
        known.pass_by(record)
        previous, count = record.hash, record.seq
        try:
            _replay(record, told)
        except (KeyError, TypeError, ValueError) as error:
            raise AuditBroken(record.name, f"what it tells of is not in the records before it ({error})") from error
        walked(count)
    known.require_older()
    return VerificationResult(count, previous, known.signed), told


def _replay(record: Record, told: _ChainState) -> None:
    subject: Mapping[str, Any] = record.subject
    requests = told.requests
    match record.action:
        case "requested":
            requests[subject["request_id"]] = _Request(
                collection=subject["collection"],
                partition=subject["partition"],
                number=subject["number"],
                digest=subject["digest"],
                summary=subject["summary"],
            )
        case "approved" if not subject["complete"]:
            pass
        case "approved" | "rejected" | "sent back" | "voided" | "expired":
            closed = replace(requests[subject["request_id"]], status=CLOSED_AS[record.action], closed_by=record.actor)
            requests[subject["request_id"]] = replace(closed, reason=subject["reason"])
        case "reminded" | "escalated":
            asked = requests[subject["request_id"]]
            requests[subject["request_id"]] = replace(asked, sla_step=STEP_OF[record.action])
        case "published":
            told.live[subject["collection"]] = subject["release"]
            told.published[subject["collection"], subject["release"]] = (subject["digest"], subject["record"])
            for request in subject["requests"]:
                if requests[request].status not in ("approved", "published"):
                    raise ValueError(f"request {request} was not approved")
                requests[request] = replace(requests[request], status="published")
        case "rolled back":
            told.live[subject["collection"]] = subject["release"]
        case "forgotten":
            for request, summary in subject["summaries"].items():
                requests[request] = replace(requests[request], summary=summary)
        case "corrected":
            key = (subject["collection"], subject["stage"], subject["document"], subject["number"])
            told.corrections[key] = {**{name: subject[name] for name in CORRECTED}, "author": record.actor}
        case "labelled":
            named = (subject[name] for name in ("collection", "stage", "document", "author", "number"))
            told.labels[tuple(named)] = {**{name: subject[name] for name in LABELLED}, "recorded_by": record.actor}
        case "rated":
            named = (subject[name] for name in ("collection", "stage", "document", "output"))
            about = {name: subject[name] for name in RATED}
            told.ratings[(*named, record.actor, subject["number"])] = about
        case "stopped":
            told.stops[subject["stop"]] = {name: subject[name] for name in STOPPED}
        case "hold decided":
            named = (subject[name] for name in ("collection", "stage", "document"))
            about = {name: subject[name] for name in HOLD_DECIDED}
            told.held[(*named, record.actor, subject["number"])] = about
        case "canary accepted":
            said = {"accepted_at": record.recorded_at, "accepted_by": record.actor, "reason": subject["reason"]}
            told.canaries |= {number: {**said, "endpoint": subject["endpoint"]} for number in subject["changes"]}
        case "budget set" if subject["declared"]:
            told.limits.pop(subject["name"], None)
        case "budget set":
            told.limits[subject["name"]] = {
                "limit_nusd": subject["limit_nusd"],
                "set_by": record.actor,
                "set_at": record.recorded_at,
                "reason": subject["reason"],
            }


def _hold_requests(connection: sa.Connection, told: _ChainState) -> None:
    found = connection.execute(
        sa.text("SELECT * FROM review_requests ORDER BY collection, partition, number")
    ).mappings()
    seen = set()
    for row in found:
        name = f"request {row['request_id']} ({row['collection']} {row['partition']})"
        recorded = told.requests.get(row["request_id"])
        if recorded is None:
            raise one_sided(name, in_table=True)
        for column, value in vars(recorded).items():
            stored = digest(row[column]) if column == "summary" else row[column]
            if stored != value:
                raise AuditBroken(name, f"the table says {column} '{stored}', the chain '{value}'")
        seen.add(row["request_id"])
    if missing := set(told.requests) - seen:
        raise one_sided(f"request {min(missing)}", in_table=False)


def _hold_releases(connection: sa.Connection, told: _ChainState) -> None:
    releases = connection.execute(sa.text("SELECT * FROM releases ORDER BY collection, number")).all()
    for release in releases:
        index = (release.index_name, release.index_version)
        stored = release_record(release.manifest, index, release.created_at, release.created_by)
        if told.published.get((release.collection, release.number)) != (release.digest, stored):
            name = f"release {release.number} of {release.collection}"
            raise AuditBroken(name, "its content is not what was published")
    if gone := set(told.published) - {(release.collection, release.number) for release in releases}:
        raise one_sided(f"release {min(gone)[1]} of {min(gone)[0]}", in_table=False)
    pointers = {r.collection: r.number for r in connection.execute(sa.text("SELECT * FROM live_releases"))}
    for collection in sorted({*pointers, *told.live}):
        if pointers.get(collection) != told.live.get(collection):
            said = f"it says release {pointers.get(collection)}, the chain {told.live.get(collection)}"
            raise AuditBroken(f"live pointer of {collection}", said)


def _hold_people(connection: sa.Connection, known: Authority) -> None:
    """Who is known, disabled, with which password; who has which role, and belongs to which group."""
    rows = {row.name: row for row in connection.execute(sa.text("SELECT * FROM people"))}
    for name in sorted({*rows, *known.people}):
        row, person = rows.get(name), known.people.get(name)
        if row is None or person is None:
            raise one_sided(f"person {name}", in_table=row is not None, what="them")
        if (row.disabled_at is None) != person.enabled:
            raise AuditBroken(f"person {name}", f"the chain says {'enabled' if person.enabled else 'disabled'}")
        if known.trust is not None and password_digest(row.password_hash) != person.password:
            raise AuditBroken(f"password of {name}", "the table holds another one than was recorded")
    here = {(row.holder, row.collection): row.role for row in connection.execute(sa.text("SELECT * FROM grants"))}
    known.require_roles(here, {holder for holder, _ in {*here, *known.grants}})
    members = {(row.person, row.group_name) for row in connection.execute(sa.text("SELECT * FROM group_members"))}
    known.require_groups(members, known.people)


def _hold_corrections(connection: sa.Connection, told: _ChainState) -> None:
    held = _rows_of(connection, "corrections", ("collection", "stage", "document_id", "number"), (*CORRECTED, "author"))
    _hold(held, told.corrections, lambda key: f"correction {key[3]} of {key[1]} of {key[2]} ({key[0]})")


def _hold_labels(connection: sa.Connection, told: _ChainState) -> None:
    named = ("collection", "stage", "document_id", "author", "number")
    held = _rows_of(connection, "golden_labels", named, (*LABELLED, "recorded_by"))
    for row in held.values():  # as the chain writes it
        row["inclusion"] = None if row["inclusion"] is None else repr(row["inclusion"])
    _hold(held, told.labels, lambda key: f"golden label {key[4]} of {key[3]} of {key[2]} ({key[0]})")


def _hold_ratings(connection: sa.Connection, told: _ChainState) -> None:
    named = ("collection", "stage", "document_id", "output", "author", "number")
    held = _rows_of(connection, "judge_ratings", named, RATED)
    _hold(held, told.ratings, lambda key: f"rating {key[5]} of {key[4]} of {key[2]} in {key[1]} ({key[0]})")


def _hold_held(connection: sa.Connection, told: _ChainState) -> None:
    named = ("collection", "stage", "document_id", "author", "number")
    held = _rows_of(connection, "hold_decisions", named, HOLD_DECIDED)
    _hold(held, told.held, lambda key: f"decision {key[4]} of {key[3]} about {key[2]} in {key[1]} ({key[0]})")


def _hold_limits(connection: sa.Connection, told: _ChainState) -> None:
    rows = connection.execute(sa.text("SELECT * FROM budget_limits")).mappings()
    held = {row["name"]: {column: row[column] for column in row if column != "name"} for row in rows}
    _hold(held, told.limits, lambda name: f"limit of budget {name}")


def _hold_canaries(connection: sa.Connection, told: _ChainState) -> None:
    rows = connection.execute(sa.text("SELECT * FROM canary_changes WHERE accepted_at IS NOT NULL")).mappings()
    columns = ("accepted_at", "accepted_by", "reason", "endpoint")
    held = {row["change_id"]: {name: row[name] for name in columns} for row in rows}
    _hold(held, told.canaries, lambda number: f"accepted change {number} of a model")


def _hold_stops(connection: sa.Connection, told: _ChainState) -> None:
    rows = connection.execute(sa.select(gate_stops.TABLE)).mappings()
    held = {row["stop"]: {**row, "record": gate_stops.stop_record(dict(row))} for row in rows}
    _hold(held, told.stops, lambda key: f"candidate that a gate stopped ({key[:16]})")


def _rows_of(
    connection: sa.Connection, table: str, named: Sequence[str], columns: Sequence[str]
) -> dict[tuple[Any, ...], dict[str, Any]]:
    """By the columns that name a row, what it says in these."""
    rows = connection.execute(sa.select(sa.text("*")).select_from(sa.table(table))).mappings()
    return {tuple(row[name] for name in named): {name: row[name] for name in columns} for row in rows}


def _hold(
    held: Mapping[Key, Mapping[str, Any]], told: Mapping[Key, Mapping[str, Any]], name_of: Callable[[Key], str]
) -> None:
    """Rows of a table against what the chain says of them."""
    for key in sorted({*held, *told}):
        name, here, there = name_of(key), held.get(key), told.get(key)
        if here is None or there is None:
            raise one_sided(name, in_table=here is not None)
        for column, value in there.items():
            if here[column] != value:
                raise AuditBroken(name, f"the table says {column} '{here[column]}', the chain '{value}'")


def _hold_spending(connection: sa.Connection) -> None:
    """Every budget holds what its attempts came to, and what those under way may."""
    for budget, column, held, found in differences(connection):
        says = f"the table says {column} ${held / NUSD:.9f}, its attempts come to ${found / NUSD:.9f}"
        raise AuditBroken(f"budget {budget}", says)
