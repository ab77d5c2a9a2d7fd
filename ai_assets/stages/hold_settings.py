"""`hold`: which documents of a stage wait for a person, and what becomes of them meanwhile. What may be declared."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from ai_assets.base.yaml_settings import Strict, nearest, refuse, wrong
from ai_assets.extensions import Options
from ai_assets.stages.columns import Columns
from ai_assets.stages.conditions import When, described
from ai_assets.storage.digest import Json

RULES = ("below", "certified", "fields", "rule", "disagrees_with", "audit")


class CertifiedSettings(Strict):
    """The threshold is chosen from golden labels that were drawn at random, for a declared error."""

    error: float = Field(gt=0, lt=1)
    """Of what is accepted without a person, at most this share is wrong."""
    confidence: float = Field(default=0.9, gt=0, lt=1)
    """How sure that is."""
    suspended_by: tuple[str, ...] = ()
    """Gates of the collection, and `drift`: while one of them has not passed, or the documents have drifted, nothing is
    accepted without a person."""


class HoldSettings(Strict):
    """A document is held if any of what is declared says so."""

    below: float | None = Field(default=None, gt=0, le=1)
    """Held with a lower confidence, or without one."""
    certified: CertifiedSettings | None = None
    """Held below the confidence that can be shown to be enough; everything, while none can."""
    fields: When | None = None
    """Held where a column is this: values, or bounds such as `{empty: true}`. Any of them is enough."""
    rule: str | None = Field(default=None, min_length=1)
    """A function of one's own, `module:name`: given the row, it says why the document is held, or None."""
    options: Options = Field(default={})
    """Its keyword arguments."""
    disagrees_with: str | None = Field(default=None, min_length=1)
    """Another stage: held where the two say different things."""
    audit: float | None = Field(default=None, gt=0, le=1)
    """The share of all documents that is held by chance. Nobody can choose which: document, text and answer decide."""
    release: Literal["without", "marked"] = "without"
    """What becomes of them meanwhile: the candidate leaves them out, or holds them with the reason in `held`."""
    reviewers: Literal[1, 2] = 1
    """How many people must say the same; where two do not, a third decides."""
    use: str | None = Field(default=None, min_length=1)
    """A column of numbers that says how much a document is used: those with the most expected errors come first."""
    remind_after_hours: float | None = Field(default=24, gt=0)
    escalate_after_hours: float | None = Field(default=72, gt=0)

    @model_validator(mode="after")
    def _holds_something(self) -> Self:
        refuse(self._misfits())
        return self

    def _misfits(self) -> Iterator[PydanticCustomError]:
        if not any(getattr(self, rule) for rule in RULES):
            yield wrong(f"holds nothing; declare at least one of {', '.join(RULES)}")
        if self.below is not None and self.certified is not None:
            yield wrong("the threshold is declared ('below') or chosen ('certified'), not both", "below")
        if self.options and self.rule is None:
            yield wrong("options are those of a rule of your own, which 'rule' names", "options")
        first, second = self.remind_after_hours, self.escalate_after_hours
        if first is not None and second is not None and first >= second:
            yield wrong("it must be later than 'remind_after_hours'", "escalate_after_hours")

    @property
    def by_confidence(self) -> bool:
        return self.below is not None or self.certified is not None

    @property
    def described(self) -> Json:
        """All that decides what is held: not who is told of it, and when."""
        apart = {"remind_after_hours", "escalate_after_hours", "fields"}
        fields = None if self.fields is None else described(self.fields)
        return {**self.model_dump(mode="json", exclude=apart), "fields": fields}

    def misfits_of(self, columns: Columns, headlines: Mapping[str, str], own: str) -> Iterator[PydanticCustomError]:
        """What does not fit the columns of its stage. `headlines`: by stage that it may be compared with."""
        for key in ("below", "certified"):
            if getattr(self, key) is not None and columns.dataset.get("confidence") != "number":
                yield wrong(f"stage '{own}' gives no confidence: it has no column 'confidence' of numbers", key)
        if self.disagrees_with is not None:
            others = [name for name in headlines if name != own]
            if self.disagrees_with not in others:
                hint = nearest(self.disagrees_with, others) if others else "; there is no other stage"
                yield wrong(f"'{self.disagrees_with}' is no other stage of one row{hint}", "disagrees_with")
        if self.use is not None and columns.dataset.get(self.use) not in ("number", "integer"):
            yield wrong(f"stage '{own}' has no column '{self.use}' of numbers", "use")


def reasons_in(found: Any) -> str | None:
    """What a rule of one's own returned, as a reason; raises TypeError for what is none."""
    if found is None or found is False:
        return None
    if isinstance(found, str) and found.strip():
        return " ".join(found.split())
    raise TypeError(f"it returned {found!r}; return a sentence that says why, or None")
