"""What the search server refuses."""

from ai_assets.base.errors import UserError


class FilterUnknown(UserError):
    def __init__(self, collection: str, asked: str, known: list[str]) -> None:
        super().__init__(
            f"{collection} has no stage '{asked}' to filter by; it has {', '.join(known) or 'none'}. Write "
            "label=STAGE:VALUE."
        )


class ReaderOpen(UserError):
    def __init__(self, host: str) -> None:
        super().__init__(
            f"With --as nobody is asked who they are, so it is for this machine alone and not for {host}. Without it "
            "each program has a token (ai-assets reviewers token NAME --reads)."
        )


class ReaderUnknown(UserError):
    def __init__(self, name: str) -> None:
        super().__init__(f"Nobody called '{name}' is known here. See: ai-assets reviewers list")
