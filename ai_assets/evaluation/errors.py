"""Errors about golden data and verdicts. They hang below `UserError`.

GoldenError        a golden file is wrong: each mistake with file, line, what was found
SearchNotFitted    there is nothing that the weight of a search could be fitted to
VerdictUnreadable  a gate's verdict that a newer version wrote
"""

from ai_assets.base.errors import DeclarationInvalid, UserError


class GoldenError(DeclarationInvalid):
    """A file of golden data is wrong."""


class SearchNotFitted(UserError):
    def __init__(self, collection: str, found: str) -> None:
        super().__init__(f"The search of {collection} cannot be fitted: {found}")


class VerdictUnreadable(UserError):
    def __init__(self, gate: str, found: object, known: int) -> None:
        super().__init__(
            f"The verdict of the gate '{gate}' has format {found}, and this version reads up to {known}. A newer "
            "ai-assets wrote it: use that one."
        )
