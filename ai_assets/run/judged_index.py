"""The golden queries asked of the index that is about to go live, before it does.

A candidate is judged on the passages of the whole corpus; what is published is an index of what people approved. So
the gates of search are held once more, against the very version that readers will get.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ai_assets.collection.loading import Collection
from ai_assets.embedding.spec import FIRST, vectors_asset
from ai_assets.evaluation.gates import Gate, GateInputs, judge
from ai_assets.evaluation.metrics import Evidence, QueryEvidence, evaluate
from ai_assets.evaluation.scoring import GoldenQuery, Score
from ai_assets.run.context import Work
from ai_assets.run.datasets.live_search import found_in
from ai_assets.run.reranking_models import SEARCH
from ai_assets.signoff import decisions, requests
from ai_assets.signoff.errors import IndexRefused
from ai_assets.signoff.releases import Part
from ai_assets.storage.index import SearchIndex
from ai_assets.storage.stores import Stores


@dataclass(frozen=True, kw_only=True)
class IndexJudge:
    """Judges an index by the collection's minimums for search; gates of one's own and those against what is live judged
    the candidates."""

    collection: Collection
    stores: Stores
    say: Callable[[str], None] = lambda _line: None

    def __call__(self, index: SearchIndex, version: int, parts: Mapping[str, Part]) -> None:
        """Raises `IndexRefused` where a gate fails that nobody waived."""
        gates = self._gates
        queries = self._queries(index, version) if gates else ()
        if not queries:
            return
        scores = self._scores(index, version, parts, queries)
        bench = GateInputs(scores=scores, pending=len(self.collection.golden_queries) - len(queries), absent=0)
        waived = self._waived(parts)
        for verdict in judge(gates, bench):
            self.say(f"search on the index that is to go live: {verdict.sentence}")
            if verdict.holds and not (verdict.waivable and verdict.name in waived):
                raise IndexRefused(self.collection.name, verdict.sentence, waivable=verdict.waivable)

    @property
    def _gates(self) -> Sequence[Gate]:
        of_queries = {metric.name for metric in self.collection.metrics if metric.of == "queries"}
        gates = [gate for gate in self.collection.settings.score_gates if gate.use is None and gate.no_worse_by is None]
        return [gate for gate in gates if gate.metric in of_queries]

    def _queries(self, index: SearchIndex, version: int) -> Sequence[GoldenQuery]:
        """Those that a document of the release answers."""
        golden = self.collection.golden_queries
        there = index.documents_there(version, {name for item in golden for name in item.documents})
        return [item for item in golden if there.intersection(item.documents)]

    def _scores(
        self, index: SearchIndex, version: int, parts: Mapping[str, Part], queries: Sequence[GoldenQuery]
    ) -> list[Score]:
        texts = [item.query for item in queries]
        there = index.documents_there(version, {name for item in queries for name in item.documents})
        embeddings = next(part.embeddings for part in parts.values() if part.chunks)
        evidence = []
        with Work(self.collection, self.stores, run_id="") as work:
            for name, embedding in embeddings.items():
                found = found_in(work, index, version, parts, (name, embedding), texts, asset=SEARCH)
                evidence.append(
                    Evidence(
                        collection=self.collection.name,
                        partition=None,
                        stage=None if name == FIRST else vectors_asset(name),
                        queries=tuple(
                            QueryEvidence(
                                query=item.query,
                                relevant=tuple(each for each in item.documents if each in there),
                                found=tuple(answer),
                            )
                            for item, answer in zip(queries, found, strict=True)
                        ),
                    )
                )
        metrics = [metric for metric in self.collection.metrics if metric.of == "queries"]
        return evaluate(metrics, lambda _metric: evidence)

    def _waived(self, parts: Mapping[str, Part]) -> set[str]:
        """Gates that were waived for a partition of the release."""
        with self.stores.state.read() as connection:
            known = (requests.get(connection, part.request_id) for part in parts.values())
            asked = [request for request in known if request is not None]
            found = decisions.standings(connection, asked)
        return {gate for standing in found.values() for gate in standing.waived}
