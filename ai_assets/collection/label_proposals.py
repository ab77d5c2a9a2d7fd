"""Labels proposed for documents that nobody has sorted yet: groups of like documents, described by the words that set
them apart. They are a draft for a person to edit, and nothing is computed from them until a collection declares them.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ai_assets.stages.classify.base import unit

if TYPE_CHECKING:
    import numpy as np

    from ai_assets.embedding.builtin import BuiltinEmbedder

FEWEST = 6
"""Documents below this give no groups worth a name."""
MOST_LABELS = 8
READ_CHARACTERS = 3_000
"""Of each document: what it is shows at its beginning."""
_SMALLEST_SHARE = 0.04
"""Of the documents; a smaller group is an outlier and no kind of its own."""
_NAME_WORDS, _DESCRIPTION_WORDS = 2, 6
_ROUNDS = 30
_SEEDS = 4
_WORD = re.compile(r"[^\W\d_]{4,20}")
_COMMON = frozenset(
    "about above after again against also although among another anything because been before being below between "
    "both cannot could does doing done down during each either else even ever every everything from further given "
    "have having here hereby into itself just like made make many more most much must need never none nothing only "
    "other others otherwise over same shall should since some something such than that their them then there "
    "therefore these they thing this those through thus under until upon used using very want were what when where "
    "whether which while will with within without would your".split()
)


@dataclass(frozen=True, kw_only=True)
class SampledText:
    name: str
    """Of the document, for people."""
    title: str
    text: str


@dataclass(frozen=True, kw_only=True)
class ProposedLabel:
    name: str
    description: str
    documents: int
    """Of the sample."""
    such_as: tuple[str, ...]
    """Documents nearest to the middle of the group."""


def propose(texts: Sequence[SampledText], embedder: BuiltinEmbedder) -> list[ProposedLabel]:
    """Two labels or more, the largest group first; none where there is too little to tell groups apart."""
    if len(texts) < FEWEST:
        return []
    import numpy as np

    vectors = np.asarray(embedder.embed([f"{each.title}\n{each.text[:READ_CHARACTERS]}" for each in texts]))
    vectors = unit(vectors - vectors.mean(axis=0))
    groups = _groups(vectors)
    if groups is None:
        return []
    words = [list(dict.fromkeys(_words(f"{each.title}\n{each.text[:READ_CHARACTERS]}"))) for each in texts]
    named: list[ProposedLabel] = []
    for number in sorted(set(groups.tolist()), key=lambda group: (-int((groups == group).sum()), group)):
        inside = np.flatnonzero(groups == number)
        own = _distinctive(words, inside.tolist())
        name = _name(own, [each.name for each in named])
        centre = vectors[inside].mean(axis=0)
        nearest = inside[np.argsort(-(vectors[inside] @ centre), kind="stable")][:2]
        named.append(
            ProposedLabel(
                name=name,
                description=_description(own),
                documents=len(inside),
                such_as=tuple(texts[int(place)].name for place in nearest),
            )
        )
    return named


def _groups(vectors: np.ndarray) -> np.ndarray | None:
    """The division into 2 to 8 groups whose members are most alike and least like the others (silhouette)."""
    import numpy as np

    distances = 1 - vectors @ vectors.T
    best, found = -math.inf, None
    for number in range(2, min(MOST_LABELS, len(vectors) // 3) + 1):
        for seed in range(_SEEDS):
            groups = _k_means(vectors, number, seed)
            sizes = np.bincount(groups, minlength=number)
            if sizes.min() < max(2, _SMALLEST_SHARE * len(vectors)):
                continue
            score = _silhouette(distances, groups, number)
            if score > best:
                best, found = score, groups
    return found


def _k_means(vectors: np.ndarray, number: int, seed: int) -> np.ndarray:
    """Of unit vectors; begins with points far from one another, the same each time."""
    import numpy as np

    generator = np.random.default_rng(seed)
    chosen = [int(generator.integers(len(vectors)))]
    while len(chosen) < number:
        far = 1 - (vectors @ vectors[chosen].T).max(axis=1)
        weights = np.maximum(far, 1e-9) ** 2
        chosen.append(int(generator.choice(len(vectors), p=weights / weights.sum())))
    centres = vectors[chosen]
    groups = (vectors @ centres.T).argmax(axis=1)
    for _ in range(_ROUNDS):
        means = [vectors[groups == each].mean(axis=0) if (groups == each).any() else centres[each]
                 for each in range(number)]  # fmt: skip
        centres = unit(np.stack(means))
        after = (vectors @ centres.T).argmax(axis=1)
        if (after == groups).all():
            break
        groups = after
    return np.asarray(groups)


def _silhouette(distances: np.ndarray, groups: np.ndarray, number: int) -> float:
    import numpy as np

    members = np.stack([(groups == each) for each in range(number)], axis=1).astype(float)
    sizes, rows = members.sum(axis=0), np.arange(len(groups))
    sums = distances @ members
    inside = sums[rows, groups] / np.maximum(sizes[groups] - 1, 1)
    others = sums / np.maximum(sizes, 1)
    others[rows, groups] = np.inf
    outside = others.min(axis=1)
    return float(((outside - inside) / np.maximum(np.maximum(inside, outside), 1e-9)).mean())


def _words(text: str) -> list[str]:
    return [word for word in _WORD.findall(text.lower()) if word not in _COMMON]


def _distinctive(words: Sequence[Sequence[str]], inside: Sequence[int]) -> list[str]:
    """Words that stand in more documents of the group than of the others, the most telling first; of equal ones, the
    one that a document begins with."""
    mine = Counter(word for place in inside for word in words[place])
    everywhere = Counter(word for each in words for word in each)
    others = max(1, len(words) - len(inside))

    def weight(word: str) -> float:
        share, elsewhere = mine[word] / len(inside), (everywhere[word] - mine[word]) / others
        return share * math.log((share + 0.02) / (elsewhere + 0.02))

    shared = [word for word, number in mine.items() if number >= 2]
    found: list[str] = []
    for word in sorted(shared, key=lambda each: -weight(each)):
        if not any(_akin(word, other) for other in found):
            found.append(word)
        if len(found) == _DESCRIPTION_WORDS:
            break
    return found


def _akin(word: str, other: str) -> bool:
    """A plural or another form: one of them says enough."""
    short, long = sorted((word, other), key=len)
    return long.startswith(short[: max(4, len(short) - 2)])


def _name(words: Sequence[str], taken: Sequence[str]) -> str:
    name = "_".join(words[:_NAME_WORDS]) or "others"
    number = 2
    while name in taken:
        name = f"{'_'.join(words[:_NAME_WORDS]) or 'others'}_{number}"
        number += 1
    return name


def _description(words: Sequence[str]) -> str:
    if not words:
        return "Documents that have little in common with the others."
    *first, last = words
    return f"Documents about {', '.join(first)} and {last}." if first else f"Documents about {last}."
