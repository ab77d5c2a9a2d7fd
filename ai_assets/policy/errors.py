"""What is wrong with policies, and what they forbid."""

from collections.abc import Sequence

from ai_assets.base.errors import DeclarationInvalid, UserError


class PolicyInvalid(DeclarationInvalid):
    """A policy that could not be believed: each mistake with file and line."""


class PolicyDenies(UserError):
    """`reasons` are the sentences of the policy, or why it could not be asked."""

    def __init__(self, what: str, reasons: Sequence[str], remedy: str) -> None:
        self.reasons = tuple(reasons)
        super().__init__(f"Policy forbids {what}: {'; '.join(reasons)}. {remedy}")


class PublicationDenied(PolicyDenies):
    def __init__(self, collection: str, partition: str, reasons: Sequence[str]) -> None:
        super().__init__(
            f"to publish {collection} {partition}", reasons,
            f"Nothing was published. See what it was asked: ai-assets policy try {collection} {partition}",
        )  # fmt: skip


class SpendingDenied(PolicyDenies):
    def __init__(self, collection: str, reasons: Sequence[str]) -> None:
        super().__init__(
            f"a run of {collection} to ask models", reasons,
            f"No model was asked. See what it was asked: ai-assets policy try {collection} --rules spending",
        )  # fmt: skip


class AccessDenied(PolicyDenies):
    def __init__(self, person: str, action: str, collection: str, reasons: Sequence[str]) -> None:
        who = f"'{person}'" if person else "whoever gives no name (--by)"
        super().__init__(
            f"{who} to {action} in {collection}", reasons,
            f"Nothing was done. See what it was asked: ai-assets policy try {collection} --rules access",
        )  # fmt: skip


class NoPolicy(UserError):
    def __init__(self, collection: str) -> None:
        super().__init__(
            f"{collection} has no policy: neither its folder nor the project has policies/*.rego. "
            f"Begin with the default: ai-assets policy init {collection}"
        )


class PolicyThere(UserError):
    def __init__(self, path: object) -> None:
        super().__init__(f"{path} is there already; nothing was written.")
