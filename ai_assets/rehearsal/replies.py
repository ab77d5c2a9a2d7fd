"""Answers in prose: sentences of the document, verbatim; or a short letter, where the instructions want a reply."""

import zlib

from ai_assets.rehearsal.labels import embedder
from ai_assets.rehearsal.letters import Letter
from ai_assets.rehearsal.reading import Reading

SUMMARY_SENTENCES = 3
_READ_SENTENCES = 300
_SHORT_WORDS = 4
NOTHING_TO_READ = "There is no text here to answer from."


def prose(reading: Reading, number: int = 0) -> str:
    if reading.wants_summary:
        return summary(reading)
    if reading.wants_reply and not reading.quick and reading.sentences:
        return _letter(reading).answer(number)
    return passage(reading, number)


def _letter(reading: Reading) -> Letter:
    amount = max(reading.amounts, key=lambda each: each.value, default=None)
    currency = reading.first("currency")
    return Letter(
        text=reading.text,
        title=reading.title,
        date=reading.dates[0].raw if reading.dates else "",
        amount=" ".join([amount.raw, *([currency.raw] if currency else [])]) if amount else "",
        promise=reading.promise,
    )


def summary(reading: Reading) -> str:
    """The sentences that are most like all the others, in the order of the document."""
    found = (reading.sentences if reading.quick else reading.told)[:_READ_SENTENCES]
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


def passage(reading: Reading, number: int = 0) -> str:
    """Two sentences; which ones depends on the text and on the number of the alternative."""
    found = reading.sentences if reading.quick else reading.told
    if not found:
        return NOTHING_TO_READ
    start = (zlib.crc32(reading.text.encode("utf-8", "replace")) + number) % len(found)
    return " ".join(found[start : start + 2])
