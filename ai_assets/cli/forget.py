"""`ai-assets forget`: a document's text is erased, and it is recorded who asked and why."""

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from ai_assets.base.plural import plural
from ai_assets.cli.output import (
    AsJson,
    By,
    CollectionName,
    collection,
    console,
    errors,
    print_json,
    stores,
    stores_to_read,
    table,
)
from ai_assets.cli.signing import signer
from ai_assets.signoff.errors import DecisionRefused

if TYPE_CHECKING:
    from ai_assets.collection.loading import Collection
    from ai_assets.forgetting.places import Places

UNREACHED = (
    "Not reached from here: the source itself (remove the file there; it stays quarantined here), the providers of "
    "models that were asked, copies of the home and backups that were not named with --backup, publication "
    "targets (ai-assets targets rebuild), exports, and what "
    "people wrote with their decisions."
)


def forget(
    name: CollectionName,
    document: Annotated[str, typer.Argument(metavar="DOCUMENT", help="Its id, as `explain` shows it.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; recorded in the audit chain for good.")] = "",
    by: By = None,
    backups: Annotated[
        list[str] | None,
        typer.Option("--backup", help="Where backups are: a new one is made, and the older ones are removed."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show where the text lies.")] = False,
    as_json: AsJson = False,
) -> None:
    """Erase the text of a document everywhere: lake, releases, index, answers of models, notes, events, backups.

    Its digests stay, so that every signature still verifies. It cannot be undone.
    """
    from ai_assets.forgetting.places import find

    chosen, places = collection(name), stores_to_read() if dry_run else stores()
    found = find(places, chosen, document)
    if dry_run:
        if as_json:
            print_json(_described(found))
        else:
            _show(found)
        return
    if not reason.strip():
        raise typer.BadParameter("say why: it is recorded", param_hint="--reason")
    person = signer(by)
    if not person.may("admin", name):
        raise DecisionRefused(person.name, f"forgetting a document takes the role admin in {name}")
    from ai_assets.forgetting.erasing import Erasure
    from ai_assets.forgetting.erasing import forget as erase

    said = errors.print
    done = erase(places, chosen, document, by=person, reason=reason, say=lambda line: said(f"{line} …"))
    errors.print("making the partition again …")
    _make_again(chosen, found)
    for folder in backups or ():
        from ai_assets.backup.making import make_backup

        made = make_backup(places, folder, keep=1, erase=True, say=partial(_said, folder))
        done.append(Erasure(where=folder, what=f"{plural(len(made.pruned), 'older backup')} removed, a new one made"))
    if as_json:
        print_json([asdict(each) for each in done])
        return
    table(f"{document} is forgotten", ["where", "what was erased"], [(each.where, each.what) for each in done])
    console.print(UNREACHED)


def _said(folder: str, line: str) -> None:
    errors.print(f"{folder}: {line} …")


def _make_again(chosen: "Collection", found: "Places") -> None:
    """Without the text. What fails here, such as a source that is not reached, is made by the next run."""
    from ai_assets.base.errors import AiAssetsError
    from ai_assets.run.context import Work
    from ai_assets.run.refresh import refresh

    try:
        with Work(chosen, stores(), "forget") as work:
            for _ in refresh(work, found.partitions):
                pass
    except AiAssetsError as error:
        errors.print(f"the next run makes it again: {error}")


def _described(found: "Places") -> dict[str, object]:
    given_up = [release.number for release in found.older]
    if found.live is not None and found.live_holds:
        given_up.append(found.live.number)
    return {
        "documents": sorted(found.documents),
        "partitions": found.partitions,
        "live": found.live.number if found.live else None,
        "given_up": given_up,
        "calls": len(found.calls),
        "requests": [request.request_id for request in found.requests],
        "named_by": list(found.examples),
        "holds": [asdict(hold) for hold in found.holds],
    }


def _show(found: "Places") -> None:
    others = len(found.documents) - 1
    rows = [
        ("documents", ", ".join(sorted(found.documents)) + (f" ({others} with the same text)" if others else "")),
        ("partitions", ", ".join(found.partitions)),
        ("live release", f"{found.live.number}: made again with tombstones" if found.live else "none"),
        ("releases given up", ", ".join(str(release.number) for release in found.older) or "none"),
        ("answers of models", f"{len(found.calls)}: the dollars stay in the ledger"),
        ("named by", "; ".join(found.examples) or "no prompt of the collection"),
        ("legal holds", ", ".join(hold.reason for hold in found.holds) or "none"),
    ]
    table("Where its text lies", ["what", "found"], rows)
    console.print(UNREACHED)
