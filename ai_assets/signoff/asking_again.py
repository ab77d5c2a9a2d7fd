"""A person says to ask again about documents without a result: on record, and due at once."""

from collections.abc import Collection as AnyOf
from typing import TYPE_CHECKING

from ai_assets.documents import retries
from ai_assets.documents.retries import Retry
from ai_assets.signoff import audit
from ai_assets.signoff.errors import DecisionRefused, NothingToAskAgain
from ai_assets.signoff.people import Person
from ai_assets.storage.digest import Json
from ai_assets.storage.state import StateStore, storable

if TYPE_CHECKING:
    from ai_assets.collection.loading import Collection

SETTLED = "invalid_output"


def may_ask_again(retry: Retry) -> bool:
    """Not where the answer is in the ledger, nor while it is not known what became of the call."""
    return retry.error != SETTLED and (retry.error != retries.HELD or retry.resolved)


def ask_again(
    state: StateStore,
    collection: "Collection",
    *,
    by: Person,
    partitions: AnyOf[str] | None = None,
    document_id: str | None = None,
    reason: str = "",
    request_id: str | None = None,
) -> list[Retry]:
    """Their count begins again and the next run asks: of all documents without a result, or of these partitions, or
    of one document. One record per partition.
    """
    if not by.may("reviewer", collection.name):
        raise DecisionRefused(by.name, f"asking again takes the role reviewer in {collection.name}")
    document_id = storable(document_id)
    with state.write() as connection:
        found = [
            retry
            for retry in retries.find(connection, collection.name, document_id=document_id)
            if retry.asset in collection.asset_names and (partitions is None or retry.partition in partitions)
        ]
        chosen = [retry for retry in found if may_ask_again(retry)]
        if not chosen:
            raise NothingToAskAgain(collection.name, document_id, found[0].error if found else None)
        places = {retry.partition for retry in chosen}
        failed = retries.find(connection, collection.name, asset=retries.CANDIDATE, document_id=retries.WHOLE)
        retries.reset(connection, [*chosen, *(retry for retry in failed if retry.partition in places)])
        for partition in sorted(places):
            here = [retry for retry in chosen if retry.partition == partition]
            subject: dict[str, Json] = {
                "collection": collection.name,
                "partition": partition,
                "assets": sorted({retry.asset for retry in here}),
                "documents": len({retry.document_id for retry in here} - {retries.WHOLE}),
                "reason": storable(reason.strip()) or "",
            }
            if document_id:
                subject["document"] = document_id
            if request_id is not None:
                subject["request_id"] = request_id
            audit.append(connection, by.name, "retry asked", subject)
    return chosen
