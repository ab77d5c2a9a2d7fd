"""The later steps of a row's provenance: checks, gates, what people said, the release and where it went."""

from collections.abc import Iterator

import sqlalchemy as sa

from ai_assets.evaluation.verdict import verdicts_of
from ai_assets.run.provenance_records import Facts, ProvenanceStep, StepLink, known
from ai_assets.signoff import audit, corrections, holds
from ai_assets.storage.digest import Json


def signed_steps(facts: Facts) -> Iterator[ProvenanceStep]:
    yield from _checks(facts)
    yield from _gates(facts)
    yield from _held(facts)
    yield from _corrections(facts)
    yield from _decision(facts)
    yield from _release(facts)
    yield from _targets(facts)


# Checks, gates, people


def _checks(facts: Facts) -> Iterator[ProvenanceStep]:
    """As they say now of the partition: a release does not freeze them."""
    query = sa.text(
        "SELECT asset, check_name, passed, blocking FROM check_results WHERE collection = :c AND partition = :p "
        "AND asset IN :assets ORDER BY asset, check_name"
    ).bindparams(sa.bindparam("assets", expanding=True))
    given = {"c": facts.collection.name, "p": facts.found.partition, "assets": list(facts.collection.asset_names)}
    rows = facts.connection.execute(query, given).all()
    if rows:
        said: dict[str, Json] = {
            f"{row.asset}: {row.check_name}": "passed" if row.passed else "failed" if row.blocking else "warned"
            for row in rows
        }
        yield ProvenanceStep(
            step="checks", facts=said, link=StepLink(kind="quality", names={"collection": facts.collection.name})
        )


def _gates(facts: Facts) -> Iterator[ProvenanceStep]:
    changes = facts.request.changes if facts.request else {}
    waived = {str(each.subject["gate"]): each for each in facts.records if each.action == "waived"}
    for gate in verdicts_of(changes):
        waiver = waived.get(gate.name)
        yield ProvenanceStep(
            step="gates",
            of=gate.name,
            facts=known(
                verdict=gate.verdict,
                said=gate.sentence,
                waived_by=None if waiver is None else waiver.actor,
                waiver=None if waiver is None else str(waiver.subject.get("reason") or ""),
            ),
            link=facts.request_link(),
        )
    if drift := (changes.get("drift") or {}).get("said"):
        yield ProvenanceStep(step="gates", of="drift", facts={"said": drift}, link=facts.request_link())


def _held(facts: Facts) -> Iterator[ProvenanceStep]:
    link = StepLink(kind="held", names={"collection": facts.collection.name})
    for held in holds.held_of(facts.connection, facts.collection.name, facts.found.document):
        yield ProvenanceStep(
            step="held",
            of=held.stage,
            facts=known(state="waits for a person", why="; ".join(held.why), held_at=held.held_at),
            link=link,
        )
    query = sa.select(holds.TABLE).where(
        holds.TABLE.c.collection == facts.collection.name, holds.TABLE.c.document_id == facts.found.document
    )
    for row in facts.connection.execute(query.order_by(holds.TABLE.c.seq)).mappings():
        yield ProvenanceStep(
            step="held",
            of=row["stage"],
            facts=known(decision=row["decision"], by=row["author"], label=row["label"], reason=row["reason"] or None,
                         at=row["made_at"]),
            link=link,
        )  # fmt: skip


def _corrections(facts: Facts) -> Iterator[ProvenanceStep]:
    table = corrections.TABLE
    query = sa.select(table).where(
        table.c.collection == facts.collection.name, table.c.document_id == facts.found.document
    )
    for row in facts.connection.execute(query.order_by(table.c.stage, table.c.number)).mappings():
        is_used = facts.row.get(f"{row['stage']}_corrected_by") == row["author"]
        same = row["document_digest"] == facts.row.get("digest")
        yield ProvenanceStep(
            step="correction",
            of=row["stage"],
            facts=known(
                label=row["label"] or "taken back",
                was=row["was"],
                by=row["author"],
                reason=row["reason"] or None,
                at=row["made_at"],
                used="yes" if is_used and same else "no",
            ),
            link=facts.document_link(),
        )


def _decision(facts: Facts) -> Iterator[ProvenanceStep]:
    part, request = facts.found.part, facts.request
    if request is None:
        missing = "nobody was asked to sign it yet" if part is None else "the request that was signed is not kept"
        yield ProvenanceStep(step="decision", missing=missing)
        return
    wanted = request.digest if part is None else part.digest
    told = [each for each in facts.records if each.action in ("approved", "rejected")]
    told = [each for each in told if each.subject.get("digest") == wanted]
    for record in told:
        yield ProvenanceStep(
            step="decision",
            of=record.actor,
            facts=known(
                verdict=record.action,
                at=record.recorded_at,
                reason=_text(record.subject.get("reason")),
                candidate=wanted,
                audit_record=record.seq,
                record_sha256=record.hash,
                key=record.key_id,
                signed="yes" if record.signature else "no: older than the keys",
            ),
            link=facts.request_link(),
        )
    if not told:
        yield ProvenanceStep(
            step="decision",
            facts={"state": request.status, "candidate": request.digest},
            missing=None if part is None else "the audit chain holds no approval of it (ai-assets audit verify)",
            link=facts.request_link(),
        )


def _text(value: Json) -> str | None:
    return str(value) if value else None


# Release, target


def _release(facts: Facts) -> Iterator[ProvenanceStep]:
    release, part = facts.found.release, facts.found.part
    if release is None or part is None:
        yield ProvenanceStep(step="release", missing="it is in no release", link=facts.request_link())
        return
    [record] = [
        each for each in audit.select(facts.connection, collections=[release.collection], actions=["published"])
        if each.subject["release"] == release.number
    ]  # fmt: skip
    yield ProvenanceStep(
        step="release",
        of=str(release.number),
        facts=known(
            digest=release.digest,
            row=facts.row.get("leaf"),
            candidate=part.digest,
            content=part.content,
            published_at=release.created_at,
            published_by=release.created_by,
            live="yes" if release.number == facts.live else "no",
            policy=part.policy,
            audit_record=record.seq,
            record_sha256=record.hash,
            checkpoint=_checkpoint(facts.connection, record.seq),
        ),
        link=StepLink(kind="release", names={"collection": release.collection, "release": str(release.number)}),
    )


def _checkpoint(connection: sa.Connection, seq: int) -> str | None:
    """The first checkpoint that stands for the record."""
    query = sa.text("SELECT size, root FROM checkpoints WHERE size >= :seq ORDER BY size LIMIT 1")
    row = connection.execute(query, {"seq": seq}).one_or_none()
    return None if row is None else f"{row.size} records, root {row.root}"


def _targets(facts: Facts) -> Iterator[ProvenanceStep]:
    release = facts.found.release
    if release is None:
        return
    query = sa.text(
        "SELECT target_receipts.target, target_receipts.receipt, target_receipts.written_at, target_states.serves, "
        "target_states.pointed_at, target_rebuilds.finished_at AS rebuilt_at, target_rebuilds.error AS rebuild_failed "
        "FROM target_receipts LEFT JOIN target_states "
        "ON target_states.collection = target_receipts.collection AND target_states.target = target_receipts.target "
        "LEFT JOIN target_rebuilds ON target_rebuilds.collection = target_receipts.collection "
        "AND target_rebuilds.target = target_receipts.target AND target_rebuilds.release_number = :n "
        "AND target_rebuilds.release_digest = :d "
        "WHERE target_receipts.collection = :c AND target_receipts.release_number = :n "
        "AND target_receipts.release_digest = :d "
        "ORDER BY target_receipts.target"
    )
    given = {"c": release.collection, "n": release.number, "d": release.digest}
    link = StepLink(kind="release", names={"collection": release.collection, "release": str(release.number)})
    for row in facts.connection.execute(query, given):
        serves = row.serves == release.number
        yield ProvenanceStep(
            step="target",
            of=row.target,
            facts=known(
                serves="yes" if serves else f"release {row.serves}" if row.serves is not None else "no",
                written_at=row.written_at,
                pointed_at=row.pointed_at if serves else None,
                rebuilt_at=row.rebuilt_at,
                rebuild_failed=row.rebuild_failed,
                receipt=row.receipt,
            ),
            link=link,
        )
    if not release.index_name:  # of a signed asset, which has none
        return
    yield ProvenanceStep(
        step="target",
        of="search index",
        facts=known(name=release.index_name, version=release.index_version, branch=release.index_branch),
        link=link,
    )
