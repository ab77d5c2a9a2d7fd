"""Manner: how a text speaks, whatever it speaks about: who is addressed, what is asked, ordered, counted, timed.

A few function words per language and the shapes of numbers; classify.py compares a document with the labels by it.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

# English, German, Dutch and Polish.
_WORDS = {
    "i": "i my me mine im ive id ich mir mich mein meine meiner ik mij mijn ja mnie mi mój moja moje",
    "we": "we us our ours wir uns unser unsere wij ons onze nas nam nasz nasza nasze",
    "you": "you your yours sie ihnen ihr ihre u uw jij je jouw ty pan pani państwo wasz",
    "must": "must may mandatory required forbidden prohibited permitted muss müssen darf dürfen moet moeten mag mogen "
    "musi muszą wolno zabrania",
    "shall": "shall hereby herein thereof hereto hiermit hierbij niniejszym niniejsza",
    "was": "was were had been happened wurde wurden war waren werd werden został została zostały był była było",
    "please": "please thanks thank help could can bitte danke könnten hilfe graag alstublieft bedankt dank kunt proszę "
    "dziękuję pomoc",
}
_KINDS = {word: kind for kind, words in _WORDS.items() for word in words.split()}
_WORD = re.compile(r"[^\W\d_]+")
_MONEY = re.compile(r"[€£$%]|\b\d[\d.,]*[.,]\d\d\b|\b(?:EUR|USD|GBP|PLN|VAT)\b")
_CLOCK = re.compile(r"\b\d{1,2}[:.]\d\d\b")
_NUMBER = re.compile(r"\b\d+\b")
_BULLET = re.compile(r"^\s*[-*•]", re.MULTILINE)


def manner(text: str, sentences: int) -> np.ndarray:
    """Rates per word or per sentence, as square roots so that a rare mark still shows."""
    import numpy as np

    words = _WORD.findall(text.lower())
    counts = Counter([_KINDS[word] for word in words if word in _KINDS])
    per_word, per_sentence = max(len(words), 1), max(sentences, 1)
    rates = [counts[kind] / per_word for kind in _WORDS]
    rates += [
        text.count("?") / per_sentence,
        len(_MONEY.findall(text)) / per_word,
        len(_CLOCK.findall(text)) / per_sentence,
        len(_NUMBER.findall(text)) / per_word,
        len(_BULLET.findall(text)) / per_sentence,
    ]
    rooted: np.ndarray = np.sqrt(np.array(rates))
    return rooted
