"""What a conversation is about: its document, apart from the prompt around it, and what can be found in it."""

import datetime
import functools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ai_assets.rehearsal.chat import ChatMessage, Schema
from ai_assets.rehearsal.letters import promised, signature, tells, wants_reply
from ai_assets.stages.classify.builtin import READ_CHARACTERS, sentence_spans

QUICK_CHARACTERS = 400
_LINE_CHARACTERS = 200
_TITLE_CHARACTERS = 120
_OPENING = re.compile(
    r"<((?:[a-z]+[_-])?(?:document|doc|text|article|passage|content|email)(?:[_-][\w-]+)?)(?:\s[^>]{0,300})?>",
    re.IGNORECASE,
)
_TRIED_TAGS = 20
_JUDGED = re.compile(r"<data>(.*?)</data>", re.DOTALL)
_AMOUNT = re.compile(r"(?<![\w.,])\d{1,3}(?:[.,' ]\d{3})+[.,]\d{2}(?!\d)|(?<![\w.,])\d+[.,]\d{2}(?![\d.,]\d)")
_INTEGER = re.compile(r"(?<![\w.,-])\d{1,15}(?![\w]|[.,]\d)")
_NUMBER = re.compile(r"-?\d+(?:[.,' ]\d{3})*(?:[.,]\d+)?")
_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
_DATE = re.compile(
    r"\b(?P<iso>\d{4}-\d{2}-\d{2})\b"
    r"|\b(?P<day>\d{1,2})(?P<mark>[./])(?P<month>\d{1,2})[./](?P<year>\d{4})\b"
    r"|\b(?P<day2>\d{1,2})\.?\s+(?P<name>[A-Z][a-z]{2,8})\.?,?\s+(?P<year2>\d{4})\b"
    r"|\b(?P<name3>[A-Z][a-z]{2,8})\.?\s+(?P<day3>\d{1,2}),?\s+(?P<year3>\d{4})\b"
)
_OPENERS = frozenset(
    "a an the on in at by for from to of and or but if as it this that we you our your i he she they is was are were "
    "dear hello hi please no not when where what who how all after before since until during with without under".split()
)
_PHRASE = re.compile(r"\b[A-Z][\w&'-]+(?: (?:of |and |& )?[A-Z][\w&'-]+)+")
PATTERNS = {
    "email": re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    "url": re.compile(r"https?://[^\s<>\"')\]]+"),
    "phone": re.compile(r"\+?\d[\d ()/-]{6,}\d"),
    "currency": re.compile(r"\b(?:EUR|USD|GBP|CHF|PLN|SEK|NOK|DKK|JPY)\b|[€$£¥]"),
    "reference": re.compile(r"(?<![\w-])(?=[\w/-]*\d)[A-Za-z0-9][\w/-]*[\w]"),
}


@dataclass(frozen=True)
class ExtractedValue:
    """A value, and the words of the document it was read from."""

    value: str | float
    raw: str


@dataclass(frozen=True)
class Reading:
    """A document as the answers see it: data, whatever it says."""

    text: str
    title: str
    """Its first line, where that looks like one."""
    body: str
    """The text without the title: sentences are quoted from here."""
    prompt: str
    """What stands around it: instructions, never taken from inside a delimited document."""
    wants_summary: bool
    most_sentences: int | None
    """Of a summary, if the instructions say so."""
    most_words: int | None
    wants_reply: bool
    promise: str
    """What the instructions want an answer to promise."""
    quick: bool
    second: bool = False
    """It is read by another model, which answers otherwise."""
    judged: str = ""
    """What was written about the document, where the instructions show it to be judged: the last <data>."""

    @functools.cached_property
    def sentences(self) -> list[str]:
        if self.quick:
            return [each for each in (line.strip() for line in self.body.split(". ")) if each]
        return [self.body[start:end] for start, end in sentence_spans(self.body)]

    @functools.cached_property
    def told(self) -> list[str]:
        """Sentences that say something, without the frame of a letter; all where none does."""
        return [sentence for sentence in self.sentences if tells(sentence)] or self.sentences

    @functools.cached_property
    def signature(self) -> str:
        return "" if self.quick else signature(self.text)

    @functools.cached_property
    def first_line(self) -> str:
        return next((line.strip(" #*\t\r") for line in self.text.splitlines() if line.strip(" #*\t\r")), "")

    @functools.cached_property
    def amounts(self) -> list[ExtractedValue]:
        return [ExtractedValue(parse_number(each), each) for each in _AMOUNT.findall(self.text)]

    @functools.cached_property
    def dates(self) -> list[ExtractedValue]:
        return dates_in(self.text)

    @functools.cached_property
    def integers(self) -> list[ExtractedValue]:
        return [ExtractedValue(float(each), each) for each in _INTEGER.findall(self.text)]

    @functools.cached_property
    def phrases(self) -> list[str]:
        """Words with capitals that belong together: names of people, companies and things."""
        found = dict.fromkeys(_PHRASE.findall(self.text))
        return [
            phrase
            for phrase in found
            if phrase.partition(" ")[0].lower() not in _OPENERS and not any(map(str.isdigit, phrase))
        ]

    def first(self, kind: str) -> ExtractedValue | None:
        match = PATTERNS[kind].search(self.text)
        return ExtractedValue(match.group(), match.group()) if match else None

    def labelled(self, words: Sequence[str]) -> str | None:
        """What follows the words and a colon: 'Invoice number: 17' has '17' for ('invoice', 'number')."""
        if self.quick or not words:
            return None
        name = r"[\s_-]*".join(re.escape(word) for word in words)
        match = re.search(rf"(?<!\w){name}[*_]*\s*[:=#]\s*(\S[^\n]{{0,{_LINE_CHARACTERS}}})", self.text, re.IGNORECASE)
        return match[1].strip(" *_|\t\r") if match else None

    def sentence_with(self, raw: str) -> str:
        """The first sentence that holds these words; else the first that says something; empty where there is none."""
        for sentence in self.sentences:
            if raw and raw in sentence:
                return sentence
        return self.told[0] if self.told else ""

    def sentence_of_most(self, raws: Sequence[str]) -> str:
        """The sentence that holds most of these words; empty where none holds any."""
        held = [sum(raw in sentence for raw in raws) for sentence in self.told]
        return self.told[held.index(max(held))] if any(held) else ""


def read(messages: Sequence[ChatMessage], *, quick: bool) -> Reading:
    """The last delimited document of the user messages, else the longest of them."""
    users = [message.text for message in messages if message.role == "user"]
    system = "\n".join([message.text for message in messages if message.role in ("system", "developer")])
    for text in reversed(users):
        if (delimited := _delimited(text)) is not None:
            document, around = delimited
            judged = _JUDGED.findall(around) if "judge" in around.lower() else []
            return _reading(document, system or around, f"{system}\n{around}", quick=quick, judged="".join(judged[-1:]))
    longest = max(users, key=len, default="")
    return _reading(longest, system or longest, f"{system}\n{longest[:_LINE_CHARACTERS]}", quick=quick)


def _reading(document: str, prompt: str, asked: str, *, quick: bool, judged: str = "") -> Reading:
    text = document[: QUICK_CHARACTERS if quick else READ_CHARACTERS]
    first, _, rest = text.partition("\n")
    titled = bool(rest.strip()) and len(first) <= _TITLE_CHARACTERS and not first.rstrip().endswith((",", ";", ":"))
    wants_summary = "summar" in asked.lower()
    return Reading(
        text=text,
        title=first.strip() if titled else "",
        body=rest if titled else text,
        prompt=prompt,
        most_sentences=_limit(asked, "sentence") if wants_summary else None,
        most_words=_limit(asked, "word") if wants_summary else None,
        wants_summary=wants_summary,
        wants_reply=wants_reply(asked),
        promise=promised(asked),
        quick=quick,
        judged=judged.strip(),
    )


def _limit(asked: str, unit: str) -> int | None:
    """From 'at most 3 sentences' in the instructions."""
    match = re.search(rf"at most (\d{{1,4}}) {unit}", asked)
    return max(int(match[1]), 1) if match else None


def _delimited(text: str) -> tuple[str, str] | None:
    """The last document such as '... <document>...</document> ...', and what stands before the first and after it."""
    if "</" not in text:
        return None
    openings = list(_OPENING.finditer(text))
    for opening in reversed(openings[-_TRIED_TAGS:]):
        closing = f"</{opening[1]}>"
        end = text.rfind(closing)
        if end >= opening.end():
            around = f"{text[: openings[0].start()]}\n{text[end + len(closing) :]}"
            return text[opening.end() : end].strip(), around
    return None


@functools.lru_cache(maxsize=256)
def schema_in_prompt(prompt: str) -> Schema | None:
    """A JSON schema written out in the instructions, for endpoints that are told the schema in words."""
    decoder, at = json.JSONDecoder(), prompt.find("{")
    while at >= 0:
        try:
            found, end = decoder.raw_decode(prompt, at)
        except ValueError:
            end = at + 1
        else:
            inner = found.get("schema", found)
            if isinstance(inner, dict) and ("properties" in inner or "$ref" in inner or "anyOf" in inner):
                return inner
        at = prompt.find("{", end)
    return None


def dates_in(text: str) -> list[ExtractedValue]:
    """Dates in ISO form, in order; day before month where a date may be read both ways."""
    found = []
    for match in _DATE.finditer(text):
        parts = match.groupdict()
        if parts["iso"]:
            year, month, day = (int(part) for part in parts["iso"].split("-"))
        elif parts["mark"]:
            day, month, year = int(parts["day"]), int(parts["month"]), int(parts["year"])
            if month > 12 >= day:
                day, month = month, day
        else:
            name = (parts["name"] or parts["name3"])[:3].lower()
            if name not in _MONTHS:
                continue
            day, year = int(parts["day2"] or parts["day3"]), int(parts["year2"] or parts["year3"])
            month = _MONTHS.index(name) + 1
        try:
            found.append(ExtractedValue(datetime.date(year, month, day).isoformat(), match.group()))
        except ValueError:
            continue
    return found


def number_in(text: str) -> ExtractedValue | None:
    match = _NUMBER.search(text)
    return ExtractedValue(parse_number(match.group()), match.group()) if match else None


def parse_number(text: str) -> float:
    """'1,234.50', '1.234,50' and '1234.5' as numbers: the last mark before one or two digits is the decimal one."""
    plain = text.replace("'", "").replace(" ", "")
    match = re.fullmatch(r"(-?[\d.,]*?)(?:[.,](\d{1,2}|\d{4,}))?", plain)
    if match is None:
        return 0.0
    whole = re.sub(r"[.,]", "", match[1]) or "0"
    return float(f"{whole}.{match[2] or 0}" if whole != "-" else f"-0.{match[2] or 0}")
