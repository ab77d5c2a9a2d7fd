"""What a judge and people said of the same outputs, gathered over the partitions of a collection."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ai_assets.evaluation.judged import JudgedOutputs
from ai_assets.evaluation.ratings import by_output, output_digest
from ai_assets.signoff.given_ratings import GivenRating, beside, in_force
from ai_assets.signoff.golden_labels import partitions_of
from ai_assets.stages.judge import JudgeStage

if TYPE_CHECKING:
    from ai_assets.collection.loading import Collection
    from ai_assets.storage.lake import Manifest
    from ai_assets.storage.stores import Stores

Found = Callable[[str, str], "Manifest | None"]
"""The dataset of an asset and a partition."""


@dataclass(frozen=True, kw_only=True)
class JudgedOutput:
    """One output, and what the judge said of it."""

    document: str
    text: str
    score: int | None
    """None where the judge gave none."""

    @property
    def digest(self) -> str:
        return output_digest(self.text)


def judge_of(collection: "Collection", stage: JudgeStage) -> str:
    """Who a judge is. Another model, prompt, scale or criterion is another judge; how much of the outputs it judges and
    how its calls travel are not part of it."""
    question = collection.questions[stage.name]
    models = " and ".join(dict.fromkeys(model for _, model in question.models))
    return f"{models}, prompt {question.prompt.version}, {question.identity_digest[:12]}"


class JudgedPartitions:
    """Only rows that this very judge made of outputs as they are now count."""

    def __init__(
        self, stores: "Stores", collection: "Collection", stage: JudgeStage, partitions: Sequence[str], found: Found,
        given: Sequence[GivenRating] = (),
    ) -> None:  # fmt: skip
        """`given`: ratings of the desk, which count beside those of the file."""
        self._given = given
        self._stores, self._collection, self._stage = stores, collection, stage
        self.there: dict[str, tuple[Manifest, Manifest]] = {}
        self.waiting: list[str] = []
        for partition in sorted(partitions):
            judged, made = found(stage.name, partition), found(stage.judges, partition)
            if (
                judged is None
                or made is None
                or judged.code_version != collection.code_versions[stage.name]
                or judged.inputs.get(stage.judges) != made.version
            ):
                self.waiting.append(partition)
            else:
                self.there[partition] = (judged, made)

    def outputs(self, partition: str, documents: "frozenset[str] | set[str] | None" = None) -> Iterator[JudgedOutput]:
        """What the judge was asked about; all, or those documents."""
        judged, made = self.there[partition]
        rows, stage = self._stores.lake.rows, self._stage
        scores = {
            row["document_id"]: row["score"]
            for row in rows(judged, ["document_id", "score"])
            if documents is None or row["document_id"] in documents
        }
        for row in rows(made, ["document_id", stage.column]):
            if row["document_id"] in scores and (text := stage.output_in(row)):
                score = scores[row["document_id"]]
                yield JudgedOutput(
                    document=row["document_id"], text=text, score=None if score is None else round(score)
                )

    def with_ratings(self, places: Callable[[str], Sequence[str]] | None = None) -> JudgedOutputs:
        """Beside what people say; `places` are the partitions that a document may be in, without it any."""
        stage = self._stage
        counts: Counter[int] = Counter()
        for judged, _ in self.there.values():
            counts.update({int(score): number for score, number in judged.stats["judged_scores"].items()})
        said = beside(self._collection.ratings.get(stage.name, ()), self._given, stage.name)
        people = by_output(said, stage.score_of)
        pairs, unjudged = self._pairs(people, places)
        return JudgedOutputs(
            stage=stage.name,
            judge=judge_of(self._collection, stage),
            points=stage.points,
            counts={score: number for score, number in counts.items() if number},
            pairs=pairs,
            outdated=len(people) - len(pairs) - unjudged,
            unjudged=unjudged,
            waiting=self.waiting,
        )

    def _pairs(
        self, people: Mapping[tuple[str, str], int], places: Callable[[str], Sequence[str]] | None
    ) -> tuple[list[tuple[int, int]], int]:
        """Ratings of both, and how many rated outputs the judge gave none."""
        documents = {document for document, _ in people}
        within: dict[str, set[str]] = {}
        for document in documents:
            for partition in self.there if places is None else places(document):
                within.setdefault(partition, set()).add(document)
        pairs: list[tuple[int, int]] = []
        unjudged = 0
        for partition in sorted(within.keys() & self.there.keys()):
            for output in self.outputs(partition, within[partition]):
                rating = people.get((output.document, output.digest))
                if rating is None:
                    continue
                if output.score is None:
                    unjudged += 1
                else:
                    pairs.append((output.score, rating))
        return pairs, unjudged


def as_computed(stores: "Stores", collection: "Collection", stage: JudgeStage) -> JudgedPartitions:
    """By the datasets as they were last computed."""

    def found(asset: str, partition: str) -> "Manifest | None":
        return stores.lake.manifest(collection.name, asset, partition)

    with stores.state.read() as connection:
        given = in_force(connection, collection.name)
    partitions = partitions_of(stores, collection.name, stage.judges)
    return JudgedPartitions(stores, collection, stage, partitions, found, given)
