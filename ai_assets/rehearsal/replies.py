"""Answers in prose: sentences of the document, verbatim."""

import zlib

from ai_assets.rehearsal.labels import embedder
from ai_assets.rehearsal.reading import Reading

SUMMARY_SENTENCES = 3
_READ_SENTENCES = 300
_SHORT_WORDS = 4
NOTHING_TO_READ = "There is no text here to answer from."


def summary(reading: Reading) -> str:
    """The sentences that are most like all the others, in the order of the document."""
    found = reading.sentences[:_READ_SENTENCES]
    whole = [sentence for sentence in found if len(sentence.split()) > _SHORT_WORDS] or found
    if not whole:
        return reading.title or NOTHING_TO_READ
    wanted = min(SUMMARY_SENTENCES, reading.most_sentences or SUMMARY_SENTENCES)
    if reading.quick or len(whole) <= wanted:
        return _within(whole[:wanted], reading.most_words)
    rows = embedder().embed(whole)
    likeness = rows @ rows.mean(axis=0)
    best = sorted(range(len(whole)), key=lambda number: (-round(float(likeness[number]), 6), number))[:wanted]
    return _within([whole[number] for number in sorted(best)], reading.most_words)


def _within(sentences: list[str], most_words: int | None) -> str:
    """As many of them as the limit has room for; of a first one that is too long, the beginning."""
    if most_words is None:
        return " ".join(sentences)
    while len(sentences) > 1 and sum(len(sentence.split()) for sentence in sentences) > most_words:
        sentences = sentences[:-1]
    return " ".join(" ".join(sentences).split()[:most_words])


def reply(reading: Reading, number: int = 0) -> str:
    """Two sentences; which ones depends on the text and on the number of the alternative."""
    found = reading.sentences
    if not found:
        return NOTHING_TO_READ
    start = (zlib.crc32(reading.text.encode("utf-8", "replace")) + number) % len(found)
    return " ".join(found[start : start + 2])
