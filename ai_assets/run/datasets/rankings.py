"""What golden queries found, kept beside the evaluation index: a query is asked again only when the index changed.

Any changed text can move the answer of any query, because the weight of a word depends on how many passages have it; so
an answer counts for one version of the index, and for all of it. What is kept can always be thrown away.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ai_assets.base.durable import write_whole
from ai_assets.storage.digest import canonical_json

FOLDER = "evaluation-rankings"
"""Beside the evaluation indexes, and like them in no backup."""


@dataclass(kw_only=True)
class Rankings:
    """Of one index at one version; `of` says which."""

    path: Path
    of: str
    asked: int = 0
    """Queries that were not answered from what is kept."""
    _found: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    @classmethod
    def opened(cls, path: Path, of: str) -> "Rankings":
        try:
            kept = json.loads(path.read_bytes())
            found = kept["found"] if kept["of"] == of else {}
        except (OSError, ValueError, KeyError, TypeError):
            found = {}  # not there, or not whole: all are asked
        return cls(path=path, of=of, _found=found)

    def answers(
        self, embedding: str, queries: Sequence[str], ask: Callable[[Sequence[str]], Sequence[Sequence[str]]]
    ) -> Mapping[str, Sequence[str]]:
        """The documents found for each query; `ask` gets those that are not known."""
        known = self._found.get(embedding, {})
        missing = [query for query in dict.fromkeys(queries) if query not in known]
        if missing:
            self.asked += len(missing)
            answered = zip(missing, map(list, ask(missing)), strict=True)
            self._found[embedding] = known = {**known, **dict(answered)}
        return {query: known[query] for query in queries}

    def keep(self, queries: Sequence[str]) -> None:
        """For the next run, without queries that are asked no more."""
        if self.asked:
            wanted = set(queries)
            found = {
                embedding: {query: names for query, names in answers.items() if query in wanted}
                for embedding, answers in self._found.items()
            }
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, canonical_json({"of": self.of, "found": found}).encode())


def forget(folder: Path) -> None:
    """An index that is made again from nothing may have the version numbers of the one before."""
    for path in folder.glob("*.json"):
        path.unlink(missing_ok=True)
