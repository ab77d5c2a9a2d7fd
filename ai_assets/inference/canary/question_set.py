"""What is asked: the built-in set, written for this purpose, or a file of your own."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, ValidationError, model_validator

from ai_assets.base.yaml_settings import Strict, line_of, located, read_yaml, wrong
from ai_assets.inference.canary_settings import CanarySettings
from ai_assets.inference.errors import CanaryInvalid
from ai_assets.inference.records import Request
from ai_assets.storage.digest import Json, digest

KIND = "canary"
MOST_CHOICES = 40


class CanaryQuestion(Strict):
    name: str = Field(min_length=1, max_length=60, pattern=r"^[\w-]+$")
    ask: str | None = Field(default=None, min_length=1, max_length=20_000)
    embed: str | None = Field(default=None, min_length=1, max_length=20_000)
    """A text whose vector is compared, in place of a question."""
    choices: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = Field(
        default=(), max_length=MOST_CHOICES
    )
    """The only answers; then one of them is compared, and else the text."""
    max_output_tokens: int = Field(default=128, ge=1, le=4096)

    @model_validator(mode="after")
    def _can_choose(self) -> Self:
        if (self.ask is None) == (self.embed is None):
            raise wrong("name either what is asked ('ask') or a text to embed ('embed')", "ask")
        if self.embed is not None and self.choices:
            raise wrong("a text to embed has no choices", "choices")
        if self.choices and len(set(self.choices)) < max(2, len(self.choices)):
            raise wrong("name at least two choices, each once", "choices")
        return self

    def request(self, endpoint: str, temperature: float | None, sample: int) -> Request:
        if self.embed is not None:
            return Request(text=self.embed, kind="embed", sample=sample, route=endpoint, document=self.name)
        schema: dict[str, Json] | None = None
        if self.choices:
            schema = {
                "type": "object",
                "properties": {"answer": {"type": "string", "enum": list(self.choices)}},
                "required": ["answer"],
                "additionalProperties": False,
            }
        return Request(
            messages=({"role": "user", "content": self.ask},),
            schema=schema,
            temperature=temperature,
            logprobs=True,
            max_output_tokens=self.max_output_tokens,
            sample=sample,
            route=endpoint,
            document=self.name,
        )


class CanarySet(Strict):
    temperature: float | None = Field(default=0.0, ge=0, le=2)
    """As stages ask, unless it is another; `null` sends none."""
    questions: tuple[CanaryQuestion, ...] = Field(min_length=1, max_length=200)

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        names = [question.name for question in self.questions]
        for number, name in enumerate(names):
            if name in names[:number]:
                raise wrong(f"question '{name}' is here twice", "questions", number, "name")
        return self

    @cached_property
    def digest(self) -> str:
        data = self.model_dump(mode="json")
        for each in data["questions"]:
            del each["ask" if each["embed"] is not None else "embed"]  # as it was before there were texts to embed
        return digest(data)


def question_set(settings: CanarySettings, inference: Path) -> CanarySet:
    """Of an endpoint; `inference` is the file that declares it."""
    if settings.items is None:
        return TEXTS if settings.embeds else BUILT_IN
    path = inference.parent / Path(settings.items).expanduser()
    node, data = read_yaml(path, CanaryInvalid)
    try:
        found = CanarySet.model_validate({} if data is None else data)
    except ValidationError as error:
        raise located(path, node, error, CanaryInvalid) from error
    for number, each in enumerate(found.questions):
        if settings.embeds is (each.embed is None):
            said = "embeds texts: write 'embed'" if settings.embeds else "asks: write 'ask', or 'embeds: true' for it"
            raise CanaryInvalid(path, line_of(node, "questions", number), f"'{each.name}': the canary {said}")
    return found


def _label(name: str, document: str, *choices: tuple[str, str]) -> CanaryQuestion:
    described = "\n".join(f"- {label}: {description}" for label, description in choices)
    asked = f"Which of these is the document?\n{described}\n\n<document>\n{document}\n</document>"
    return CanaryQuestion(name=name, ask=asked, choices=tuple(label for label, _ in choices))


def _built_in() -> Sequence[CanaryQuestion]:
    """Some are plain and some can be read in two ways: those are where models differ."""
    kinds = (
        ("invoice", "asks for payment of an amount"),
        ("complaint", "says what went wrong and wants a remedy"),
        ("contract", "terms that two parties agree on"),
        ("report", "tells what was found or done"),
    )
    urgency = (("today", "needs somebody at once"), ("this-week", "can wait some days"), ("no-hurry", "has no date"))
    tone = (("content", "pleased or thankful"), ("neutral", "plain facts"), ("annoyed", "angry or disappointed"))
    return (
        _label(
            "kind-plain-invoice",
            "Invoice 4417. Two pump seals at 38.50 each, in all 77.00 euros, payable within fourteen days.",
            *kinds,
        ),
        _label(
            "kind-plain-contract",
            "The tenant pays 940 euros a month. Either side may end this agreement with three months' notice.",
            *kinds,
        ),
        _label(
            "kind-billing-complaint",
            "Your invoice 203 charges us twice for the same filter. Please take 61.20 euros off and send a new one.",
            *kinds,
        ),
        _label(
            "kind-inspection",
            "On Tuesday we looked at gate 3. The left hinge is worn; we greased it, and it should be replaced under "
            "the maintenance agreement for 120 euros.",
            *kinds,
        ),
        _label(
            "kind-warranty",
            "The drive failed in its fourth month. Our agreement promises replacement within ten days; today is the "
            "fifteenth.",
            *kinds,
        ),
        _label("urgency-leak", "Water drips from the ceiling onto the switch cabinet in hall 2.", *urgency),
        _label("urgency-order", "We are down to our last two boxes of labels, and use one every three days.", *urgency),
        _label("urgency-paint", "When somebody has time, the fence behind the store could do with paint.", *urgency),
        _label("tone-irony", "Wonderful: the third technician in a week, and the machine still stands.", *tone),
        _label("tone-thanks", "The parts came a day late, but your driver carried them up four floors.", *tone),
        CanaryQuestion(
            name="text-summary",
            ask="Summarise this document in one sentence.\n\n<document>\nThe pump in hall 3 was replaced on Monday. It "
            "had leaked since March. The new one is smaller, uses a third less power and was tested for two "
            "hours.\n</document>",
        ),
        CanaryQuestion(
            name="text-arithmetic",
            ask="A crate holds 18 bottles. How many crates are needed for 1,000 bottles, and how many places stay "
            "empty? Answer in one short sentence.",
        ),
    )


BUILT_IN = CanarySet(questions=tuple(_built_in()))
TEXTS = CanarySet(
    questions=tuple(
        CanaryQuestion(name=name, embed=text)
        for name, text in (
            ("invoice", "Two pump seals at 38.50 each, in all 77.00 euros, payable within fourteen days."),
            ("contract", "Either side may end this agreement with three months' notice."),
            ("complaint", "Your invoice charges us twice for the same filter. Please take 61.20 euros off."),
            ("report", "The left hinge of gate 3 is worn; we greased it, and it should be replaced."),
            ("urgent", "Water drips from the ceiling onto the switch cabinet in hall 2."),
            ("irony", "Wonderful: the third technician in a week, and the machine still stands."),
            ("one-word", "pump"),
            ("number", "EN ISO 13849-1, part no. 4417-B, 1,200 rpm"),
            ("german", "Das Getriebe wurde am Montag getauscht und zwei Stunden lang geprüft."),
            ("french", "La pompe fuit depuis mars et doit être remplacée avant l'hiver."),
            ("table", "item | pieces | price\nseal | 2 | 77.00\nfilter | 1 | 61.20"),
            (
                "long",
                "The pump in hall 3 was replaced on Monday. It had leaked since March. The new one is smaller, uses a "
                "third less power and was tested for two hours. The old one stays in the store until somebody has "
                "looked at its bearing; after that it may be scrapped, if the insurer agrees.",
            ),
        )
    )
)
"""Plain and odd ones: a changed vector space moves all of them, a changed tokenizer or truncation some."""
