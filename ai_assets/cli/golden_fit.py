"""`ai-assets golden fit`: the weight of vectors in a search, fitted to the golden queries as they are now."""

from dataclasses import asdict
from typing import Annotated

import typer

from ai_assets.cli.output import AsJson, CollectionName, collection, console, print_json, stores
from ai_assets.collection.loading import Collection
from ai_assets.embedding.spec import FIRST
from ai_assets.evaluation.errors import SearchNotFitted
from ai_assets.evaluation.fusion_fit import FusionFit
from ai_assets.run.context import Work
from ai_assets.run.datasets.evaluation_scores import CorpusEvaluation
from ai_assets.run.datasets.fitted_search import fit, record


def fit_search(
    name: CollectionName,
    yes: Annotated[bool, typer.Option("--yes", help="Use it from the next run on; people sign for it.")] = False,
    as_json: AsJson = False,
) -> None:
    """What the golden queries say of the weight of vectors beside words in a search; with --yes it is used.

    A weight stays as it was signed when golden queries change. A new one makes all partitions due: the search that
    people sign is the search that goes live, and it is one for all partitions.
    """
    chosen = collection(name)
    require_fitting(chosen)
    with Work(chosen, stores(), run_id="") as work:
        corpus = CorpusEvaluation(work)
        before = {each.name: work.searched_by.rules(each.name).vector_weight for each in chosen.embeddings}
        fits = {each.name: fit(each, work, corpus) for each in chosen.embeddings}
        changes = any(fits[embedding].weight != weight for embedding, weight in before.items())
        if yes and changes:
            record(work, fits)
    if as_json:
        found = {embedding: {"now": before[embedding], **asdict(each)} for embedding, each in fits.items()}
        print_json({"collection": name, "fits": found, "changes": changes, "used": yes and changes})
        return
    for embedding, each in fits.items():
        console.print(_said(embedding, before[embedding], each), markup=False)
    if not changes:
        console.print("Nothing changes.")
    elif yes:
        console.print(f"All partitions are judged with it, and signed for, once they are run: ai-assets run {name}")
    else:
        console.print(f"Nothing was changed. To use it: ai-assets golden fit {name} --yes")


def require_fitting(chosen: Collection) -> None:
    if not chosen.golden_queries:
        raise SearchNotFitted(chosen.name, "it has no golden queries: declare a file of them under golden.queries")
    if not chosen.fits_search:
        found = f"it is searched by rules 1, which have a fixed weight: ai-assets migrate {chosen.name}"
        raise SearchNotFitted(chosen.name, found)


def _said(embedding: str, now: float, found: FusionFit) -> str:
    whose = "search" if embedding == FIRST else f"search by {embedding}"
    return f"{whose}: weight {now:g} now. {found.in_words[0].upper()}{found.in_words[1:]}: {found.outcome}."
