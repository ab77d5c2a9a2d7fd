"""Errors about what may be removed. They hang below `UserError`.

HoldRefused  a legal hold that is not placed or ended
"""

from ai_assets.base.errors import UserError


class HoldRefused(UserError):
    def __init__(self, collection: str, release: int | None, found: str) -> None:
        what = f"release {release} of {collection}" if release is not None else f"all of {collection}"
        super().__init__(f"The legal hold on {what} was not changed: {found}. See: ai-assets retention holds")
