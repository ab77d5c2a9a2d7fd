"""Errors of shadows. They hang below `UserError`.

ShadowRefused     there is nothing to compare
VariantUnusable   a prompt or a route that the stage cannot have
ShadowUnknown     no such shadow
ShadowCapped      the approved price is used up
ShadowWaits       its calls may not leave now
PromotionRefused  what was compared is not what would be written
"""

from collections.abc import Sequence

from ai_assets.base.errors import UserError
from ai_assets.base.plural import plural
from ai_assets.base.yaml_settings import nearest


class ShadowRefused(UserError):
    def __init__(self, collection: str, stage: str, found: str) -> None:
        super().__init__(f"Nothing was asked about stage '{stage}' of {collection}: {found}.")


class VariantUnusable(UserError):
    def __init__(self, variant: str, found: str) -> None:
        super().__init__(f"Variant '{variant}' cannot be compared, and nothing was asked: {found}")


class ShadowUnknown(UserError):
    def __init__(self, collection: str, asked: str, known: Sequence[str]) -> None:
        hint = nearest(asked, list(known), "there is none yet; see docs/shadow.md")
        super().__init__(f"{collection} has no shadow '{asked}'{hint}")


class ShadowCapped(UserError):
    def __init__(self, shadow: str, cap: str) -> None:
        super().__init__(
            f"Shadow {shadow} is at its cap of {cap}, and no more calls are made for it. What was answered is kept and "
            "not paid again: give the same command with a higher --max-usd to go on."
        )


class ShadowWaits(UserError):
    def __init__(self, shadow: str, documents: int, opens: str) -> None:
        super().__init__(
            f"Shadow {shadow} waits: questions about {plural(documents, 'document')} "
            f"may leave {opens}. What was answered is "
            "kept and not paid again: give the same command again then."
        )


class PromotionRefused(UserError):
    def __init__(self, shadow: str, found: str) -> None:
        super().__init__(f"Shadow {shadow} cannot be promoted, and nothing was changed: {found}.")
