"""Why nothing is rendered."""

from collections.abc import Sequence
from pathlib import Path

from ai_assets.base.errors import UserError


class QuotaTooSmall(UserError):
    def __init__(self, namespace: str, what: str, *, asked: str, by: str, most: str, key: str) -> None:
        super().__init__(
            f"The quota of namespace '{namespace}' allows {most} of {what}, and {by} asks for {asked}: that pod would "
            f"never begin. Raise {key} in operations.yaml, or lower `compute:` of the stage."
        )


class TenantsLeftOut(UserError):
    def __init__(self, tenants: Sequence[str], operations: Path, known: Sequence[str]) -> None:
        super().__init__(
            f"{operations} gives a namespace to tenants that no collection has: {', '.join(tenants)}. "
            f"Collections here are of: {', '.join(known)}. Correct cluster.tenants."
        )


class NothingToDeploy(UserError):
    def __init__(self, project: Path) -> None:
        super().__init__(f"{project} has no collection. Make one with: ai-assets new NAME")


class RenderingUnwritable(UserError):
    def __init__(self, folder: Path, error: OSError) -> None:
        super().__init__(
            f"Manifests cannot be written to {folder}: {error.strerror} ({error.filename or folder}). Name a folder "
            "that can be written, or correct its permissions, and render again."
        )


class RenderingDiffers(UserError):
    def __init__(self, folder: Path, differences: Sequence[str]) -> None:
        shown = "; ".join(differences[:10]) + ("; ..." if len(differences) > 10 else "")
        super().__init__(f"{folder} is not what this project renders: {shown}. Run: ai-assets deploy render {folder}")
