"""`ai-assets golden`: what people say is right: samples to label, files of labels, and how many are missing."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ai_assets.base.plural import plural
from ai_assets.cli.golden_fit import fit_search
from ai_assets.cli.output import (
    AsJson,
    By,
    CollectionName,
    collection,
    console,
    led,
    print_json,
    stores,
    stores_to_read,
    table,
)
from ai_assets.cli.signing import signer
from ai_assets.collection.loading import Collection
from ai_assets.signoff import golden_labels, golden_sets
from ai_assets.signoff.golden_retirements import retire, take_back
from ai_assets.signoff.golden_samples import RANDOM_SHARE, SIZE, draw, samples
from ai_assets.signoff.golden_status import GoldenStatus, golden_status
from ai_assets.signoff.label_files import KEYS, FileFormat, as_line, import_golden, written
from ai_assets.storage.stores import Stores

app = typer.Typer(help="What people say is right: labels that judge a stage.", no_args_is_help=True)
AsFormat = Annotated[FileFormat, typer.Option("--format", help="JSON lines or CSV.")]
FromFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="JSON lines, or CSV where its name ends in .csv.", show_default=False)
]
Every = Annotated[
    bool, typer.Option("--all", help="Also of documents on which people disagree, and of texts that have changed.")
]
MOST_SHOWN = 10


app.command("fit")(fit_search)


@app.command("status")
def status(name: CollectionName, as_json: AsJson = False) -> None:
    """What is labelled, what waits, and how many labels are missing before each gate on accuracy can be decided."""
    chosen, places = collection(name), stores_to_read()
    found = golden_status(chosen, places)
    if as_json:
        print_json(_plain(found))
        return
    if found.queries:
        console.print(f"{plural(found.queries, 'golden query judges', 'golden queries judge')} the search of {name}.")
    if found.stage is None:
        console.print("It has no golden labels; golden: {labels: FILE} or {review: true} declares them.")
    else:
        _show_labels(found)
    _show_judged(found, leaked_count=chosen.settings.golden.leaked == "count")


def _show_labels(found: GoldenStatus) -> None:
    rows = [(_SOURCES[source], number) for source, number in found.by_source.items()]
    table(f"Golden labels of {found.stage}", ("source", "labels"), rows, ("labels",))
    share = f", {found.right} of them as the model says" if found.scored else ""
    console.print(f"{plural(found.scored, 'label counts', 'labels count')} in the metrics{share}.")
    if found.drawn:
        unsure = f", {found.unsure} nobody could label" if found.unsure else ""
        console.print(
            f"{plural(found.drawn, 'document is', 'documents are')} drawn: {plural(found.waiting, 'waits', 'wait')} "
            f"for a label{unsure}. On the desk: /golden"
        )
    for gate in found.gates:
        console.print(led(f"{gate.gate}: ", "bold", gate.standing.in_words))
    if not found.gates:
        console.print("No gate on accuracy is declared, so nothing is decided by them yet.")
    if found.disagreed:
        shown = ", ".join(found.disagreed[:MOST_SHOWN])
        console.print(
            f"People disagree on {plural(len(found.disagreed), 'document')}, by which nothing is judged: {shown}"
        )
    if found.outdated:
        console.print(
            f"{plural(found.outdated, 'label is', 'labels are')} of a text that has "
            "changed since: nothing is judged by that."
        )


def _show_judged(found: GoldenStatus, *, leaked_count: bool) -> None:
    judged = found.judged
    if judged.set is not None:
        console.print(f"The last scores are by golden set {judged.set} ({judged.digest}).")
    _listed(
        f"{len(found.retired)} retired, and judge nothing",
        [f"{each['item']}{' by ' if each['by'] else ''}{each['by']}: {each['why']}" for each in found.retired],
    )
    effect = "judge all the same (golden.leaked: count)" if leaked_count else "judge nothing"
    _listed(
        f"{len(judged.leaked)} leaked, and {effect}",
        [f"{each['item']}: {each['share']:.0%} in {each['where']}" for each in judged.leaked],
    )
    _listed(
        f"{len(judged.disputed)} disputed",
        [f"{each['document']}: {'; '.join(each['said'])}" for each in judged.disputed],
    )
    _listed(f"{len(judged.unknown)} unknown to the source", judged.unknown)


def _listed(head: str, lines: Sequence[str]) -> None:
    if lines:
        console.print(f"{head}:")
        for line in lines[:MOST_SHOWN]:
            console.print(f"  {line}")
        if len(lines) > MOST_SHOWN:
            console.print(f"  and {len(lines) - MOST_SHOWN} more (--json has all)")


_SOURCES = {
    "file": "the golden file",
    "random": "drawn by chance",
    "uncertain": "drawn because the model is unsure (not in the metrics)",
    "chosen": "chosen by somebody",
}


def _plain(found: GoldenStatus) -> dict[str, Any]:
    gates = [
        {"gate": gate.gate, **vars(gate.standing), "in_words": gate.standing.in_words} for gate in found.gates
    ]  # fmt: skip
    judged = vars(found.judged)
    return {
        **vars(found), "by_source": dict(found.by_source), "gates": gates, "missing": found.missing, "judged": judged
    }  # fmt: skip


@app.command("versions")
def versions(name: CollectionName, as_json: AsJson = False) -> None:
    """The golden sets that judged, the newest first, and what changed from one to the next."""
    chosen, places = collection(name), stores_to_read()
    with places.state.read() as connection:
        found, changed = golden_sets.recorded(connection, name), golden_sets.changes(connection, name)
    said = {golden_sets.query_item(item.query): f'"{item.query}"' for item in chosen.golden_queries}
    if as_json:
        shown = {
            number: [{**vars(one), "shown": said.get(one.item)} for one in made] for number, made in changed.items()
        }
        print_json([{**vars(each), "changes": shown.get(each.number, [])} for each in found])
        return
    if not found:
        console.print(f"Nothing of {name} was judged by golden items yet.")
    for each in found:
        what = f"{plural(each.labels, 'label')}, {plural(each.queries, 'query')}"
        console.print(
            led(f"{each.number} ({each.digest}): ", "bold", f"{what}, since {each.made_at[:16]}, run {each.run_id}")
        )
        lines = [
            f"{one.change} {said.get(one.item, f'query {one.item[:12]}') if one.kind == 'query' else one.item}"
            f"{f': {one.said}' if one.said and one.kind == 'label' else ''}"
            for one in changed.get(each.number, ())
        ]
        for line in lines[:MOST_SHOWN]:
            console.print(f"  {line}")
        if len(lines) > MOST_SHOWN:
            console.print(f"  and {len(lines) - MOST_SHOWN} more (--json has all)")


@app.command("retire")
def retire_item(
    name: CollectionName,
    document: Annotated[str, typer.Argument(metavar="DOCUMENT", help="A golden document.", show_default=False)],
    reason: Annotated[str, typer.Option("--reason", help="Why; recorded in the audit chain.")] = "",
    undo: Annotated[bool, typer.Option("--undo", help="It judges again.")] = False,
    by: By = None,
) -> None:
    """Let a golden document judge nothing any more, whoever labelled it; its label stays on record."""
    chosen, person = collection(name), signer(by)
    if undo:
        take_back(stores(), chosen, document, by=person)
        console.print(f"{document} judges {name} again from the next run on.")
        return
    retire(stores(), chosen, document, reason=reason, by=person)
    console.print(f"{document} is retired: it judges nothing of {name} from the next run on.")


@app.command("draw")
def draw_sample(
    name: CollectionName,
    size: Annotated[int, typer.Option(help="How many documents.")] = SIZE,
    random_share: Annotated[
        float, typer.Option(help="Which share of them at random; the rest are those that the model is least sure of.")
    ] = RANDOM_SHARE,
    opinions: Annotated[int, typer.Option(help="How many people are asked about each.")] = 1,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Draw documents for people to label on the desk."""
    chosen, person = collection(name), signer(by)
    made = draw(stores(), chosen, by=person, size=size, random_share=random_share, opinions=opinions)
    if as_json:
        print_json(made)
        return
    console.print(
        f"Sample {made.number}: {plural(made.random_size, 'document')} at random of {made.population}, and the "
        f"{made.uncertain_size} of the rest that {made.stage} is least sure of. Label them on the desk: /golden"
    )


@app.command("samples")
def list_samples(name: CollectionName, as_json: AsJson = False) -> None:
    """What was drawn, when and by whom."""
    chosen, places = collection(name), stores_to_read()
    stage = golden_labels.stage_of(chosen)
    with places.state.read() as connection:
        found = samples(connection, name, stage.name)
    if as_json:
        print_json([vars(item) for item in found])
        return
    rows = [
        (item.number, item.random_size, item.uncertain_size, item.population, item.opinions, item.drawn_by,
         item.drawn_at[:16]) for item in found
    ]  # fmt: skip
    columns = ("sample", "random", "uncertain", "of", "opinions", "by", "when (UTC)")
    table(f"Samples of {name}", columns, rows, columns[:5])


@app.command("export")
def export(name: CollectionName, format_: AsFormat = "jsonl", every: Every = False) -> None:
    """The labels that people gave, each with its author and how its document was chosen."""
    chosen, places = collection(name), stores_to_read()
    sys.stdout.write(written(_lines(chosen, places, every=every), (*KEYS, "made_at"), format_))


def _lines(chosen: Collection, places: Stores, *, every: bool) -> list[dict[str, Any]]:
    golden_labels.stage_of(chosen)
    with places.state.read() as connection:
        found = golden_labels.in_force(connection, chosen)
    if every:
        return [as_line(item) for item in found.given]
    present = golden_labels.of_present_texts(places, chosen.name, found.agreed.values())
    texts = {(item.document_id, item.document_digest) for item in present}
    return [as_line(item) for item in found.given if (item.document_id, item.document_digest) in texts]


@app.command("import")
def import_file(name: CollectionName, file: FromFile, by: By = None, as_json: AsJson = False) -> None:
    """Golden labels of a file, each with its author; a file with a mistake is refused as a whole."""
    chosen, person = collection(name), signer(by)
    found = import_golden(stores(), chosen, file, by=person)
    if as_json:
        print_json({"recorded": len(found)})
        return
    console.print(f"Recorded of {name}: {plural(len(found), 'golden label')}; what was there already is left as it is.")
