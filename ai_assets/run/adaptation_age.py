"""How the documents that a stage was adapted to compare with those that there are now, and how long ago that was."""

import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ai_assets.base.plural import plural
from ai_assets.collection.loading import Collection
from ai_assets.storage.state import now

GROWN = 3
"""By so many times as many documents a new fit is worth a look."""
OLD_DAYS = 365
_MONTH_DAYS = 30.44


@dataclass(frozen=True, kw_only=True)
class AdaptationAge:
    stage: str
    documents: int
    """That it was fitted to."""
    of: int
    """Different texts that there were then."""
    labelled_now: int
    fitted_at: str
    days: int
    """Since then; none where the clock was set back."""

    @property
    def is_outgrown(self) -> bool:
        return self.labelled_now >= GROWN * self.of or self.days >= OLD_DAYS

    def sentence(self, collection: str) -> str:
        months = round(self.days / _MONTH_DAYS)
        span = plural(months, "month") if months > 1 else plural(self.days, "day")
        ago = f"{span} ago" if self.days else "today"
        said = (
            f"Stage '{self.stage}' was adapted to {self.documents:,} of {plural(self.of, 'text')} {ago}, and labels "
            f"{plural(self.labelled_now, 'document')} now."
        )
        look = f" What a new fit would change: ai-assets adapt {collection} --stage {self.stage} --dry-run"
        return said + (look if self.is_outgrown else "")


def adaptation_ages(
    connection: sa.Connection, collection: Collection, at: str | None = None
) -> Sequence[AdaptationAge]:
    """Of each adapted stage. `at`: another moment than now."""
    query = sa.text("SELECT stats FROM datasets WHERE collection = :c AND asset = :a")
    moment = datetime.datetime.fromisoformat(at or now())
    found: list[AdaptationAge] = []
    for stage, adaptation in collection.adaptations.items():
        rows: Sequence[str] = connection.execute(query, {"c": collection.name, "a": stage}).scalars().all()
        fitted = adaptation.fitted_on
        found.append(
            AdaptationAge(
                stage=stage,
                documents=fitted.documents,
                of=fitted.of,
                labelled_now=sum(int(json.loads(stats)["documents_out"]) for stats in rows),
                fitted_at=fitted.at,
                days=max(0, (moment - datetime.datetime.fromisoformat(fitted.at)).days),
            )
        )
    return found
