"""Errors about golden data and verdicts. They hang below `UserError`.

GoldenError        a golden file is wrong: file, line, what was found
VerdictUnreadable  a gate's verdict that a newer version wrote
"""

from pathlib import Path

from ai_assets.base.errors import UserError


class GoldenError(UserError):
    def __init__(self, path: Path, line: int | None, problem: str) -> None:
        super().__init__(f"{path}{f':{line}' if line else ''}: {problem}")


class VerdictUnreadable(UserError):
    def __init__(self, gate: str, found: object, known: int) -> None:
        super().__init__(
            f"The verdict of the gate '{gate}' has format {found}, and this version reads up to {known}. A newer "
            "ai-assets wrote it: use that one."
        )
