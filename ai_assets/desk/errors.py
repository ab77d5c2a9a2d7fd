"""Errors of the desk's pages and of runs that are started from it. They hang below `UserError`.

ProviderRefused                  single sign-on did not say who this is
LaunchRefused                    this person may not start this
NothingToRun, PartitionsUnnamed  nothing is due; partitions to run again without their names
StartedBefore, FormUsedElsewhere  a form that starts runs was sent twice, or for another collection
PriceBusy                        other prices are being worked out
"""

from ai_assets.base.errors import UserError


class ProviderRefused(UserError):
    def __init__(self, provider: str, found: str) -> None:
        super().__init__(f"Signing in with {provider} did not work: {found}.")


class LaunchRefused(UserError):
    def __init__(self, name: str, what: str, role: str, collection: str) -> None:
        super().__init__(
            f"{name} may not {what}: it takes the role {role} in {collection} "
            f"(ai-assets reviewers grant {name} {role} {collection})."
        )


class NothingToRun(UserError):
    def __init__(self, collection: str) -> None:
        super().__init__(f"Nothing of {collection} is due, so nothing was started. Name partitions to run them again.")


class PartitionsUnnamed(UserError):
    def __init__(self, collection: str) -> None:
        super().__init__(f"Running again takes names: say which partitions of {collection}, the first and the last.")


class StartedBefore(UserError):
    def __init__(self, person: str, at: str) -> None:
        super().__init__(f"{person} started this already, at {at[:19]} (UTC); it was not started a second time.")


class FormUsedElsewhere(UserError):
    """The id of a form of another collection, of which nothing is said here."""

    def __init__(self) -> None:
        super().__init__("This form cannot be used any more, and nothing was started. Open the page again.")


class PriceBusy(UserError):
    def __init__(self) -> None:
        super().__init__("Other prices are being worked out at the moment. Wait a moment and try again.")
