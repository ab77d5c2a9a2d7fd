"""Shadows in the state store."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from ai_assets.shadow.errors import ShadowUnknown
from ai_assets.shadow.spec import ComparedDocument, Shadow, ShadowResults, ShadowSpec
from ai_assets.storage.state import StateStore, now, storable, upsert


def begin(state: StateStore, collection: str, spec: ShadowSpec, by: str) -> Shadow:
    """A new one; or the one of the very same that was begun and has not ended, to go on with."""
    with state.write() as connection:
        same = sa.text(
            "SELECT * FROM shadows WHERE collection = :c AND spec_digest = :d AND state = 'open' ORDER BY number DESC"
        )
        row = connection.execute(same, {"c": collection, "d": spec.digest}).first()
        if row is not None:
            return _shadow(row)
        last = sa.text("SELECT COALESCE(MAX(number), 0) FROM shadows WHERE collection = :c")
        number = int(connection.execute(last, {"c": collection}).scalar_one()) + 1
        values = {
            "name": f"{spec.stage}-{number}",
            "stage": spec.stage,
            "spec_digest": spec.digest,
            "spec": spec.model_dump_json(),
            "state": "open",
            "made_by": by,
            "made_at": now(),
        }
        upsert(connection, "shadows", {"collection": collection, "number": number}, values)
        return _get(connection, collection, number)


def finish(
    state: StateStore, shadow: Shadow, results: ShadowResults, documents: Sequence[ComparedDocument]
) -> Shadow:  # fmt: skip
    """All of it at once: one that was killed before has no results, and is begun again from the ledger."""
    key = {"collection": shadow.collection, "number": shadow.number}
    insert = sa.text(
        "INSERT INTO shadow_documents (collection, number, variant, document_id, partition, is_sampled, live_said, "
        "new_said, live_call, new_call, golden, why) VALUES (:collection, :number, :variant, :document_id, :partition, "
        ":is_sampled, :live_said, :new_said, :live_call, :new_call, :golden, :why)"
    )
    rows = [{**key, **each.model_dump(), "is_sampled": int(each.is_sampled), "why": storable(each.why)}
            for each in documents]  # fmt: skip
    with state.write() as connection:
        connection.execute(sa.text("DELETE FROM shadow_documents WHERE collection = :collection AND number = :number"),
                           key)  # fmt: skip
        if rows:
            connection.execute(insert, rows)
        done = "UPDATE shadows SET state = 'done', ended_at = :at, results = :results"
        connection.execute(sa.text(f"{done} WHERE collection = :collection AND number = :number"),
                           {**key, "at": now(), "results": results.model_dump_json()})  # fmt: skip
        return _get(connection, shadow.collection, shadow.number)


def mark_promoted(state: StateStore, shadow: Shadow, variant: str) -> None:
    query = sa.text("UPDATE shadows SET promoted = :v WHERE collection = :c AND number = :n")
    with state.write() as connection:
        connection.execute(query, {"v": variant, "c": shadow.collection, "n": shadow.number})


def find(connection: sa.Connection, collections: Sequence[str]) -> list[Shadow]:
    """The newest first."""
    if not collections:
        return []
    query = sa.text("SELECT * FROM shadows WHERE collection IN :c ORDER BY made_at DESC, collection, number DESC")
    rows = connection.execute(query.bindparams(sa.bindparam("c", expanding=True)), {"c": list(collections)})
    return [_shadow(row) for row in rows]


def named(connection: sa.Connection, collection: str, name: str) -> Shadow:
    """By its name or its number. Raises ShadowUnknown."""
    found = find(connection, [collection])
    for each in found:
        if name in (each.name, str(each.number)):
            return each
    raise ShadowUnknown(collection, name, [each.name for each in found])


def documents_of(connection: sa.Connection, shadow: Shadow) -> list[ComparedDocument]:
    """In order of variant and document, without those that were forgotten since."""
    query = sa.text(
        "SELECT * FROM shadow_documents WHERE collection = :c AND number = :n ORDER BY variant, document_id"
    )
    rows = connection.execute(query, {"c": shadow.collection, "n": shadow.number})
    return [ComparedDocument(**row._mapping) for row in rows]


def _get(connection: sa.Connection, collection: str, number: int) -> Shadow:
    query = sa.text("SELECT * FROM shadows WHERE collection = :c AND number = :n")
    return _shadow(connection.execute(query, {"c": collection, "n": number}).one())


def _shadow(row: Any) -> Shadow:
    said = dict(row._mapping)
    spec, results = ShadowSpec.model_validate_json(said.pop("spec")), said.pop("results")
    return Shadow(**said, spec=spec, results=None if results is None else ShadowResults.model_validate_json(results))
