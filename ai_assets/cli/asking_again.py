"""What commands say of documents without a result, and `ai-assets run --ask-again`."""

from collections.abc import Mapping, Sequence

from ai_assets.base.plural import plural
from ai_assets.cli.output import console, table
from ai_assets.collection.loading import Collection
from ai_assets.documents import retries
from ai_assets.documents.retries import Retry, RetrySummary
from ai_assets.signoff.asking_again import ask_again
from ai_assets.signoff.people import Person
from ai_assets.storage.stores import Stores

MOST_SHOWN = 10
MOST_DOCUMENTS = 40
MOST_CHARACTERS = 200


def reset(chosen: Collection, places: Stores, keys: Sequence[str], by: Person, *, quiet: bool) -> None:
    """On record, under the name of a person who may say so and has proved who they are."""
    found = ask_again(places.state, chosen, by=by, partitions=set(keys))
    if not quiet:
        console.print(f"Asking again about {plural(len(found), 'document')} of {chosen.name}.")


def waiting_of(chosen: Collection, places: Stores, keys: Sequence[str]) -> dict[str, RetrySummary]:
    wanted = set(keys)
    with places.state.read() as connection:
        found = retries.waiting(connection, chosen)
    return {key: item for key, item in found.items() if key in wanted}


def show_people(found: Sequence[Retry]) -> None:
    """The documents that need a person, with what was tried."""
    if not found:
        return
    rows = [
        (retry.partition, retry.document_id or "the whole partition", retry.asset, retry.tries,
         f"{retry.error}: {retry.message}"[:MOST_CHARACTERS])
        for retry in found[:MOST_DOCUMENTS]
    ]  # fmt: skip
    table("Need a person", ("partition", "document", "missing", "runs", "last error"), rows, ("runs",))
    if len(found) > MOST_DOCUMENTS:
        console.print(f"... and {len(found) - MOST_DOCUMENTS} more (--json has all).")


def say_waiting(collection: str, found: Mapping[str, RetrySummary]) -> None:
    """A line per partition, up to a few; and what to do."""
    said = [(key, item.in_words) for key, item in sorted(found.items()) if item.in_words]
    for key, words in said[:MOST_SHOWN]:
        console.print(f"{key}: {words}")
    if len(said) > MOST_SHOWN:
        console.print(
            f"... and {plural(len(said) - MOST_SHOWN, 'more partition')} with "
            "documents without a result (--json has all)"
        )
    asked = [key for key, _ in said if not found[key].is_stopped]
    if len(asked) < len(said):
        console.print(
            f"To run the same again changes nothing. See why: ai-assets evaluate {collection}, or Scores on the desk",
            markup=False,
        )
    if asked:
        console.print(
            f"Ask at once: ai-assets run {collection} --partition {asked[0]}    "
            f"begin the count again: ai-assets run {collection} --ask-again",
            markup=False,
        )
