"""`ai-assets judge`: what judges and people say of the same outputs: sheets to rate, files of ratings, agreement."""

import sys
from typing import Annotated, Any

import typer

from ai_assets.base.plural import plural
from ai_assets.cli.golden import AsFormat, FromFile
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
from ai_assets.evaluation.figures import lower, upper
from ai_assets.evaluation.judged import FEWEST_RATED, JudgedOutputs, details_of, in_words, scores_of
from ai_assets.evaluation.scoring import Score
from ai_assets.signoff.judged_outputs import as_computed
from ai_assets.signoff.label_files import written
from ai_assets.signoff.rating_files import KEYS, import_ratings, judge_named, sheet

app = typer.Typer(help="What judges rate, and how far people agree.", no_args_is_help=True)
OfStage = Annotated[
    str | None, typer.Option("--stage", help="The judge; needed where there are several.", show_default=False)
]


@app.command("show")
def show(name: CollectionName, stage: OfStage = None, as_json: AsJson = False) -> None:
    """What each judge says, how far people agree, and what people would say of all on average."""
    chosen, places = collection(name), stores_to_read()
    judges = [judge_named(chosen, stage)] if stage is not None or not chosen.judges else chosen.judges
    found = [as_computed(places, chosen, judge).with_ratings() for judge in judges]
    if as_json:
        print_json([_plain(each) for each in found])
        return
    for each in found:
        console.print(led(f"{each.stage}: ", "bold", f"{each.judge}"))
        rows = [(score.metric, _shown(score.value), _bounds(score), score.n) for score in scores_of(each)]
        table(f"From 0 (the worst of the scale) to 1: {each.stage}", ("metric", "value", "95 %", "n"), rows, ("n",))
        console.print(f"{in_words(each)}.")
        if each.outdated:
            console.print(
                f"{plural(each.outdated, 'rated output has', 'rated outputs have')} changed since, "
                "or been judged no more: no rating of that counts."
            )
        if each.waiting:
            console.print(
                f"{plural(len(each.waiting), 'partition is', 'partitions are')} not judged by this judge yet."
            )


def _plain(found: JudgedOutputs) -> dict[str, Any]:
    return {**details_of(found), "scores": [score.as_row() for score in scores_of(found)], "in_words": in_words(found)}


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _bounds(score: Score) -> str:
    return "" if score.interval is None else f"{lower(score.interval.low)} to {upper(score.interval.high)}"


@app.command("sheet")
def rating_sheet(
    name: CollectionName,
    stage: OfStage = None,
    number: Annotated[int, typer.Option(min=1, help="How many outputs.")] = FEWEST_RATED,
    format_: AsFormat = "csv",
) -> None:
    """Outputs for people to rate, drawn by digest, without what the judge said: fill in `rating` and `author`."""
    chosen, places = collection(name), stores_to_read()
    lines = sheet(places, chosen, judge_named(chosen, stage), number)
    sys.stdout.write(written(lines, KEYS, format_))


@app.command("import")
def import_file(
    name: CollectionName, file: FromFile, stage: OfStage = None, by: By = None, as_json: AsJson = False
) -> None:
    """Ratings of a filled-in sheet, into the file that the judge declares; one with a mistake is refused as a whole."""
    chosen, person = collection(name), signer(by)
    judge = judge_named(chosen, stage)
    found = import_ratings(stores(), chosen, judge, file, by=person)
    if as_json:
        print_json({"file": str(found.file), "new": found.new, "replaced": found.replaced})
        return
    more = f", {found.replaced} replace what the same person said before" if found.replaced else ""
    console.print(
        f"{found.file} now has {plural(found.new, 'new rating')} of {judge.name}{more}. "
        "They count from the next run on."
    )
