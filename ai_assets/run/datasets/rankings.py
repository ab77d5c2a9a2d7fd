"""What golden queries found, kept beside the evaluation index: a query is asked again only when the index changed.

Any changed text can move the answer of any query, because the weight of a word depends on how many passages have it; so
an answer counts for one version of the index, and for all of it. What is kept can always be thrown away.
"""

import json
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ai_assets.base.durable import write_whole
from ai_assets.storage.digest import Json, canonical_json

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
    _there: dict[str, bool] = field(default_factory=dict)
    """Whether the index has a passage of a document, of those that were looked for."""
    _has_more: bool = False
    """Than the file."""

    @classmethod
    def opened(cls, path: Path, of: str) -> "Rankings":
        kept = kept_at(path, of)
        return cls(path=path, of=of, _found=kept.get("found", {}), _there=kept.get("there", {}))

    def answers(
        self, embedding: str, queries: Sequence[str], ask: Callable[[Sequence[str]], Sequence[Sequence[str]]]
    ) -> Mapping[str, Sequence[str]]:
        """The documents found for each query; `ask` gets those that are not known."""
        known = self._found.get(embedding, {})
        missing = [query for query in dict.fromkeys(queries) if query not in known]
        if missing:
            self.asked += len(missing)
            self._has_more = True
            answered = zip(missing, map(list, ask(missing)), strict=True)
            self._found[embedding] = known = {**known, **dict(answered)}
        return {query: known[query] for query in queries}

    def there(self, documents: Iterable[str], look: Callable[[Collection[str]], Set[str]]) -> Set[str]:
        """Those of the documents that have a passage; `look` gets those that are not known."""
        wanted = set(documents)
        if missing := wanted - self._there.keys():
            found = look(missing)
            self._there |= {name: name in found for name in missing}
            self._has_more = True
        return {name for name in wanted if self._there[name]}

    def keep(self, queries: Sequence[str]) -> None:
        """For the next run, without queries that are asked no more."""
        if self._has_more:
            wanted = set(queries)
            found = {
                embedding: {query: names for query, names in answers.items() if query in wanted}
                for embedding, answers in self._found.items()
            }
            keep_at(self.path, self.of, {"found": found, "there": self._there})


def kept_at(path: Path, of: str) -> Mapping[str, Any]:
    """What was kept there of that; nothing where it is of something else, not there, or not whole."""
    try:
        kept = json.loads(path.read_bytes())
        return kept if kept["of"] == of else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def keep_at(path: Path, of: str, found: Mapping[str, Json]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, canonical_json({"of": of, **found}).encode())


def forget_answers(folder: Path) -> bool:
    """All that was kept beside these indexes; whether there was something."""
    there = (folder / FOLDER).is_dir()
    if there:
        shutil.rmtree(folder / FOLDER)
    return there


def forget(folder: Path) -> None:
    """An index that is made again from nothing may have the version numbers of the one before."""
    for path in (*folder.glob("*.json"), *folder.glob("*.npz")):
        path.unlink(missing_ok=True)
