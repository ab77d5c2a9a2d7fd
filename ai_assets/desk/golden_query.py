"""Golden labels as the desk shows them: where a collection stands, and the next document a person is asked about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ai_assets.collection.loading import Collection
from ai_assets.desk.access import collection_seen
from ai_assets.desk.context import Desk
from ai_assets.desk.ratings_query import RatingLine, rating_lines
from ai_assets.signoff import golden_labels, golden_samples
from ai_assets.signoff.golden_labels import GivenLabel, LabelPlace
from ai_assets.signoff.golden_samples import SampledDocument, waits_for
from ai_assets.signoff.golden_status import GoldenStatus, golden_status
from ai_assets.signoff.people import Person
from ai_assets.storage.lake import read_parquet_row
from ai_assets.storage.stores import Stores

LONGEST_TEXT = 50_000
"""Characters that are shown: what a document is shows early."""


@dataclass(frozen=True, kw_only=True)
class GoldenLine:
    """A collection on the overview."""

    collection: str
    stage: str
    status: GoldenStatus
    waiting_for_me: int
    may_label: bool


@dataclass(frozen=True, kw_only=True)
class GoldenOverview:
    lines: Sequence[GoldenLine]
    without: Sequence[str]
    """Collections with a stage that labels, and no golden labels declared."""
    judges: Sequence[RatingLine] = ()


@dataclass(frozen=True, kw_only=True)
class LabelChoice:
    name: str
    description: str
    key: str | None
    """The key that chooses it; more than ten labels have not all one."""


@dataclass(frozen=True, kw_only=True)
class LabelTask:
    """One document to label. What the model says of it is not shown."""

    place: LabelPlace
    title: str
    path: str
    text: str
    cut: bool
    mine: str | None
    """What this person answered before: a label, `unsure` or nothing."""


@dataclass(frozen=True, kw_only=True)
class LabellingView:
    collection: str
    stage: str
    choices: Sequence[LabelChoice]
    task: LabelTask | None
    """None where nothing waits for this person."""
    answered: int
    """Documents of the samples that this person has answered."""
    waiting: int
    """Documents that wait for this person."""
    last: GivenLabel | None
    """What this person answered last."""

    @property
    def last_words(self) -> str | None:
        if self.last is None:
            return None
        return f"{self.last.document_id} is {self.last.label}" if self.last.label else (
            f"you cannot tell what {self.last.document_id} is"
        )  # fmt: skip


def golden_overview(desk: Desk, person: Person) -> GoldenOverview:
    """All collections a person may see that have golden labels, or could have."""
    lines, without = [], []
    for name, collection in sorted(desk.seen_by(person).items()):
        if collection.judged_stage is None or collection.signed_asset is not None:
            continue
        if not collection.judges_labels:
            without.append(name)
            continue
        with desk.stores.state.read() as connection:
            asked = golden_samples.asked(connection, collection, collection.judged_stage)
        lines.append(
            GoldenLine(
                collection=name,
                stage=collection.judged_stage.name,
                status=golden_status(collection, desk.stores),
                waiting_for_me=sum(waits_for(item, person.name) for item in asked),
                may_label=person.may("reviewer", name),
            )
        )
    return GoldenOverview(lines=lines, without=without, judges=rating_lines(desk, person))


def labelling_view(desk: Desk, person: Person, name: str, document_id: str = "") -> LabellingView:
    """The document of that name where this person was asked about it, else the next that waits for them."""
    collection = collection_seen(desk, person, name)
    stage = golden_labels.stage_of(collection)
    with desk.stores.state.read() as connection:
        asked = golden_samples.asked(connection, collection, stage)
    texts = _Texts(desk.stores, collection)
    waiting = [item for item in asked if waits_for(item, person.name)]
    wanted = [item for item in asked if item.place.document_id == document_id]
    task = next((found for item in [*wanted, *waiting] if (found := texts.task(item, person)) is not None), None)
    mine = [answer for item in asked for answer in item.answers if answer.author == person.name]
    given = [answer for answer in mine if answer.answer != "withdrawn"]
    last = max(given, key=lambda answer: (answer.made_at, answer.document_id), default=None)
    return LabellingView(
        collection=name,
        stage=stage.name,
        choices=[
            LabelChoice(name=label.name, description=label.description, key=_key(number))
            for number, label in enumerate(stage.labels, start=1)
        ],
        task=task,
        answered=len(given),
        waiting=len(waiting),
        last=last,
    )


def asked_place(desk: Desk, person: Person, name: str, document_id: str) -> tuple[Collection, LabelPlace] | None:
    """Where the document stands in a sample; None where nobody is asked about it."""
    collection = collection_seen(desk, person, name)
    stage = golden_labels.stage_of(collection)
    with desk.stores.state.read() as connection:
        asked = golden_samples.asked(connection, collection, stage)
    found = next((item.place for item in asked if item.place.document_id == document_id), None)
    return None if found is None else (collection, found)


def _key(number: int) -> str | None:
    return str(number % 10) if number <= 10 else None


class _Texts:
    """Texts of documents as last computed; of a partition the names are read once."""

    def __init__(self, stores: Stores, collection: Collection) -> None:
        self._stores, self._collection = stores, collection
        self._known: dict[str, Mapping[str, tuple[int, str | None]]] = {}

    def _places(self, partition: str) -> Mapping[str, tuple[int, str | None]]:
        """By document, its place in the dataset and the digest of its text."""
        if partition not in self._known:
            manifest = self._stores.lake.manifest(self._collection.name, "documents", partition)
            rows = self._stores.lake.rows(manifest, ["document_id", "digest", "status"]) if manifest else ()
            self._known[partition] = {
                row["document_id"]: (place, row["digest"] if row["status"] == "ok" else None)
                for place, row in enumerate(rows)
            }
        return self._known[partition]

    def task(self, item: SampledDocument, person: Person) -> LabelTask | None:
        """None where the text is not the one that was drawn."""
        name, partition = item.place.document_id, item.place.partition
        place, digest = self._places(partition).get(name, (0, None))
        manifest = self._stores.lake.manifest(self._collection.name, "documents", partition)
        if manifest is None or digest != item.place.document_digest:
            return None
        row = read_parquet_row(self._stores.lake.path(manifest), place)
        mine = next((answer for answer in item.answers if answer.author == person.name), None)
        said = None if mine is None else mine.label if mine.answer == "label" else mine.answer
        return LabelTask(
            place=item.place,
            title=row["title"] or name,
            path=row["path"],
            text=row["text"][:LONGEST_TEXT],
            cut=len(row["text"]) > LONGEST_TEXT,
            mine=said if said != "withdrawn" else None,
        )
