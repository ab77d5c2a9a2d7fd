"""Errors that only Dagster's side has. They hang below `UserError`.

ChecksAlone    a check is asked for without its asset
TargetsFailed  a target does not serve the live release
"""

from collections.abc import Sequence

from ai_assets.base.errors import UserError


class ChecksAlone(UserError):
    def __init__(self, collection: str) -> None:
        super().__init__(
            f"Checks of {collection} are made together with their asset, partition by partition. "
            f"Press Materialize on the asset and choose partitions, or: ai-assets run {collection} --all"
        )


class TargetsFailed(UserError):
    def __init__(self, collection: str, release: int, failures: Sequence[str]) -> None:
        super().__init__(
            f"Release {release} of {collection} is live, and not everywhere: {'; '.join(failures)}. It is tried again "
            f"with growing pauses; at once: ai-assets publish {collection}"
        )
