"""Outputs that people rate on the desk, one after the other in an order drawn by digest, blind to the judge."""

from collections.abc import Sequence
from dataclasses import dataclass

from ai_assets.collection.loading import Collection
from ai_assets.desk.access import NotSeen, collection_seen
from ai_assets.desk.context import Desk
from ai_assets.evaluation.judged import FEWEST_RATED
from ai_assets.signoff import given_ratings
from ai_assets.signoff.judged_outputs import JudgedOutput, as_computed
from ai_assets.signoff.people import Person
from ai_assets.stages.judge import JudgeStage
from ai_assets.storage.lake import place_in_parquet, read_parquet_row

LONGEST_TEXT = 50_000


@dataclass(frozen=True, kw_only=True)
class RatingLine:
    """A judge on the overview."""

    collection: str
    judge: str
    of: str
    rated: int
    """Outputs as they are now that people have rated."""
    waiting: int
    missing: int
    """How many more a gate needs at least."""
    may: bool


@dataclass(frozen=True, kw_only=True)
class RatingChoice:
    word: str
    key: str | None
    hint: str


@dataclass(frozen=True, kw_only=True)
class RatingTask:
    document: str
    output: str
    """The digest of what is rated."""
    written: str
    title: str
    text: str
    """Of the document that it was made from."""
    cut: bool
    mine: str | None


@dataclass(frozen=True, kw_only=True)
class RatingView:
    collection: str
    judge: str
    of: str
    criteria: str
    choices: Sequence[RatingChoice]
    task: RatingTask | None
    """None where nothing waits."""
    rated: int
    waiting: int
    last: str | None
    """The document that this person rated last."""
    may: bool


def rating_lines(desk: Desk, person: Person) -> list[RatingLine]:
    found = []
    for name, collection in sorted(desk.seen_by(person).items()):
        for stage in collection.judges:
            outputs, rated, _ = _outputs(desk, collection, stage)
            number = sum((each.document, each.digest) in rated for _, each in outputs)
            found.append(
                RatingLine(
                    collection=name, judge=stage.name, of=stage.of, rated=number, waiting=len(outputs) - number,
                    missing=max(0, min(FEWEST_RATED, len(outputs)) - number), may=person.may("reviewer", name),
                )
            )  # fmt: skip
    return found


def judge_seen(desk: Desk, person: Person, name: str, judge: str) -> tuple[Collection, JudgeStage]:
    collection = collection_seen(desk, person, name)
    found = next((stage for stage in collection.judges if stage.name == judge), None)
    if found is None:
        raise NotSeen(f"judge '{judge[:60]}' of '{name[:60]}'")
    return collection, found


def rating_view(desk: Desk, person: Person, name: str, judge: str, document: str = "") -> RatingView:
    """The output of that document, where there is one; else the next one without a rating."""
    collection, stage = judge_seen(desk, person, name, judge)
    outputs, rated, given = _outputs(desk, collection, stage)
    mine = {
        (each.document_id, each.output): each for each in given if each.author == person.name and each.said is not None
    }
    waiting = [each for each in outputs if (each[1].document, each[1].digest) not in rated]
    wanted = [each for each in outputs if document and each[1].document == document]
    chosen = next(iter([*wanted, *sorted(waiting, key=lambda each: stage.place_of(each[1].document))]), None)
    last = max(mine.values(), key=lambda each: each.made_at, default=None)
    lowest, highest = stage.words[0], stage.words[-1]
    hints = {str(lowest): "the worst", str(highest): "the best"}
    return RatingView(
        collection=name,
        judge=judge,
        of=stage.of,
        criteria=stage.criteria,
        choices=[
            RatingChoice(word=str(word), key=_key(word, number), hint=hints.get(str(word), ""))
            for number, word in enumerate(stage.words, start=1)
        ],
        task=None if chosen is None else _task(desk, collection, *chosen, mine),
        rated=len(outputs) - len(waiting),
        waiting=len(waiting),
        last=None if last is None else last.document_id,
        may=person.may("reviewer", name),
    )


def _key(word: int | str, number: int) -> str | None:
    """A number of the scale is its own key where it is one digit; of words their place."""
    if isinstance(word, int):
        return str(word) if 0 <= word <= 9 else None
    return str(number)


def _outputs(
    desk: Desk, collection: Collection, stage: JudgeStage
) -> tuple[list[tuple[str, JudgedOutput]], set[tuple[str, str]], list[given_ratings.GivenRating]]:
    """What the judge was asked about, by partition; what people have rated; and what they said of it on the desk."""
    with desk.stores.state.read() as connection:
        given = [each for each in given_ratings.in_force(connection, collection.name) if each.stage == stage.name]
    said = given_ratings.beside(collection.ratings.get(stage.name, ()), given, stage.name)
    there = as_computed(desk.stores, collection, stage)
    outputs = [(partition, each) for partition in there.there for each in there.outputs(partition)]
    return outputs, {(each.document, each.output) for each in said}, given


def _task(
    desk: Desk,
    collection: Collection,
    partition: str,
    output: JudgedOutput,
    mine: dict[tuple[str, str], given_ratings.GivenRating],
) -> RatingTask:
    lake = desk.stores.lake
    manifest = lake.manifest(collection.name, "documents", partition)
    title, text = output.document, ""
    path = lake.path(manifest) if manifest is not None else None
    if path is not None and (place := place_in_parquet(path, "document_id", output.document)) is not None:
        whole = read_parquet_row(path, place)
        if whole["status"] == "ok":
            title, text = whole["title"] or title, whole["text"] or ""
    said = mine.get((output.document, output.digest))
    return RatingTask(
        document=output.document, output=output.digest, written=output.text, title=title, text=text[:LONGEST_TEXT],
        cut=len(text) > LONGEST_TEXT, mine=None if said is None else str(said.said),
    )  # fmt: skip
