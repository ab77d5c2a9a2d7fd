"""`ai-assets adapt`: fit the built-in classifier to documents of the collection without labels, in a declared file."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ai_assets.base.collection_files import DEFS_FILE
from ai_assets.base.durable import write_whole
from ai_assets.base.plural import plural
from ai_assets.cli.errors import AdaptationUnwritable, StageNotAdaptable
from ai_assets.cli.output import AsJson, CollectionName, collection, console, print_json, stores_to_read, table
from ai_assets.cli.plan import progress
from ai_assets.cli.scaffold_entry import with_stage_key
from ai_assets.collection.adaptations import unusable_passed_over, usable_adaptation
from ai_assets.collection.loading import Collection, load_collection
from ai_assets.planning.adapting import Adapting, GoldenJudgement, ProposedAdaptation, described
from ai_assets.planning.preview import PreviewWork
from ai_assets.stages.classify.adaptation import Adaptation
from ai_assets.stages.classify.kind import ClassifyStage
from ai_assets.stages.classify.unlabelled import DOCUMENTS, LEAST_DOCUMENTS
from ai_assets.storage.state import now

FOLDER = "adaptation"
MOST_MOVES = 8


def adapt(
    name: CollectionName,
    stage: Annotated[
        str | None, typer.Option(help="The stage; needed where several have the built-in classifier.")
    ] = None,
    documents: Annotated[
        int, typer.Option(min=LEAST_DOCUMENTS, max=20_000, help="How many documents are drawn, at most.")
    ] = DOCUMENTS,
    seed: Annotated[int, typer.Option(min=0, help="Which documents are drawn; the same ones for the same number.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Write the file without asking.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fit the built-in classifier to documents of the collection without labels, in a file that its stage declares.

    Says before what would change; it costs nothing, and no label is looked at. Labels then depend on the document and
    on the file: the next run makes them again, and what changes is signed again. Golden labels judge before and after.
    """
    with unusable_passed_over():
        chosen = collection(name)
    wanted = adaptable(chosen, stage)
    with stores_to_read() as places, progress(quiet=as_json) as (say, advance):
        work = PreviewWork(chosen, places, "adapt")
        with work:
            found = Adapting(work, wanted, size=documents, seed=seed).proposed(now(), say, advance)
    known = chosen.adaptations.get(wanted.name)
    same = known is not None and known.numbers == found.adaptation.numbers
    if not as_json:
        show(found)
    written = None
    if same:
        verdict = "The declared file has these numbers already; nothing was changed."
    elif dry_run:
        verdict = f"Nothing was changed. To go on: ai-assets adapt {name} --stage {wanted.name}"
    elif yes or (not as_json and console.is_terminal and typer.confirm("Write the file?")):
        written = write(chosen, wanted, found.adaptation)
        verdict = f"Written: {written}, declared in {chosen.folder / DEFS_FILE}. Now: ai-assets run {name}"
    else:
        verdict = f"Nothing was changed. To write the file: ai-assets adapt {name} --stage {wanted.name} --yes"
    if as_json:
        print_json({**described(found), "file": str(written) if written else None, "written": written is not None})
    else:
        console.print(verdict)


def adaptable(chosen: Collection, wanted: str | None) -> ClassifyStage:
    found = [each for each in chosen.labelling if each.is_builtin]
    if wanted is not None:
        named = next((each for each in chosen.stages if each.name == wanted), None)
        if not isinstance(named, ClassifyStage) or not named.is_builtin:
            raise StageNotAdaptable(chosen.name, wanted, [each.name for each in found], exists=named is not None)
        return named
    if len(found) != 1:
        raise StageNotAdaptable(chosen.name, None, [each.name for each in found], exists=False)
    return found[0]


def show(found: ProposedAdaptation) -> None:
    fitted, effect = found.adaptation.fitted_on, found.effect
    console.print(
        f"Stage '{found.adaptation.stage}' of {found.adaptation.collection}, fitted to {fitted.documents} of "
        f"{plural(fitted.of, 'text')} (seed {fitted.seed}), without their labels. Price: $0.",
        style="bold",
    )
    share = f" ({effect.changed / effect.labelled:.1%})" if effect.labelled else ""
    console.print(f"{effect.changed} of {plural(effect.labelled, 'label')} would change{share}.")
    if effect.corrected:
        console.print(f"{effect.corrected} of these people have corrected; their label stays.")
    if effect.unlabelled:
        console.print(f"{plural(effect.unlabelled, 'document')} without a label of this text yet.")
    moves = [(before, after, number) for (before, after), number in effect.moves.most_common(MOST_MOVES)]
    if moves:
        table("", ("before", "after", "documents"), moves, ("documents",))
        examples = [
            (each.document, each.title, f"{each.before} {each.before_confidence:.2f}",
             f"{each.after} {each.after_confidence:.2f}")
            for each in effect.examples
        ]  # fmt: skip
        table("Some of them, drawn by chance", ("document", "title", "before", "after"), examples)
    _show_golden(found.golden)


def _show_golden(golden: GoldenJudgement | None) -> None:
    if golden is None:
        console.print("No golden labels judge this stage, so whether it gets better is not known: docs/golden.md")
        return
    rows = [
        (name, f"{each.accuracy:.3f}", f"{each.ece:.3f}", "four fifths, in turns" if each.fitted else "none of them")
        for name, each in (("before", golden.before), ("after", golden.after))
    ]
    table(
        f"{plural(golden.documents, 'document')} with a golden label, each judged by a fit without it",
        ("", "accuracy", "ECE", "confidence fitted to"), rows, ("accuracy", "ECE"),
    )  # fmt: skip
    if golden.after.accuracy < golden.before.accuracy:
        console.print("By these golden labels the stage would be right less often than it is.", style="bold yellow")


def write(chosen: Collection, stage: ClassifyStage, adaptation: Adaptation) -> Path:
    """The file, and its declaration where there is none yet. After a kill in between, the file is there and
    not declared, so it has no effect; on an error both are restored."""
    declared = chosen.folder / DEFS_FILE
    path = chosen.folder / (stage.adapted or f"{FOLDER}/{stage.name}.json")
    text = declared.read_bytes()
    wanted = text
    if stage.adapted is None:
        wanted = with_stage_key(
            declared, text.decode("utf-8"), stage.name, "adapted", path.relative_to(chosen.folder).as_posix()
        ).encode()
    with _writable(path), ExitStack() as undo:
        path.parent.mkdir(parents=True, exist_ok=True)
        undo.callback(_put_back, path, path.read_bytes() if path.is_file() else None)
        write_whole(path, adaptation.written().encode())
        if wanted != text:
            write_whole(declared, wanted)
            undo.callback(_put_back, declared, text)
        usable_adaptation(path, stage)
        with unusable_passed_over():  # another stage's may be outdated, too
            load_collection(chosen.folder.parent, chosen.name)
        undo.pop_all()
    return path


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise AdaptationUnwritable(path, error) from error


def _put_back(path: Path, before: bytes | None) -> None:
    if before is None:
        path.unlink(missing_ok=True)
    elif path.read_bytes() != before:
        write_whole(path, before)
