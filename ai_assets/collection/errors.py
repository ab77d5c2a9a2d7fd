"""Errors about what is declared of a collection. They hang below `UserError`.

CollectionInvalid                           defs.yaml or a file it names is wrong: file, line, what to write
CollectionElsewhere                         two collections of one name in one home
CollectionUnknown                           no such collection
CollectionNameInvalid, CollectionNameTaken  `ai-assets new` refuses
PartitionUnknown                            no such partition
RangeReversed                               a range of partitions that begins after its end
"""

from collections.abc import Sequence
from pathlib import Path

from ai_assets.base.errors import DeclarationInvalid, UserError


class CollectionInvalid(DeclarationInvalid):
    """`defs.yaml`, or a file it names, is wrong."""


class CollectionUnknown(UserError):
    def __init__(self, name: str, known: Sequence[str], folder: Path) -> None:
        found = ", ".join(known) or "none"
        super().__init__(
            f"There is no collection '{name}' in {folder}, and no definitions recorded one (found: {found}). "
            f"Make one with: ai-assets new {name} --from FOLDER"
        )


class CollectionNameTaken(UserError):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"'{name}' cannot name a collection: the assets, the job and the folder of the lake with that name are "
            "those of the cost warehouse. Choose another name."
        )


class CollectionElsewhere(UserError):
    def __init__(self, name: str, there: Path, here: Path, home: Path) -> None:
        super().__init__(
            f"Two collections are called '{name}' in the home {home}: the one in {there}, and the one in {here}. A "
            "name means one collection in all projects that share a home. Rename one of the folders, or give one "
            "of the projects a home of its own (AI_ASSETS_HOME)."
        )


class CollectionNameInvalid(UserError):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"'{name}' cannot name a collection: use lower-case letters, digits and single underscores, letter first, "
            "and no word that Python or Dagster keeps for itself (such as 'class' or 'input')."
        )


class PartitionUnknown(UserError):
    def __init__(self, collection: str, key: str, by: str, keys: Sequence[str], near: str | None) -> None:
        span = f"they go from {keys[0]} to {keys[-1]}" if keys else "the source has none yet"
        hint = f" Did you mean '{near}'?" if near is not None else ""
        super().__init__(f"'{key}' is no partition of {collection} (by {by}: {span}).{hint}")


class RangeReversed(UserError):
    def __init__(self, collection: str, first: str, last: str) -> None:
        super().__init__(
            f"The range {first}...{last} of {collection} is the wrong way round: {last} comes before {first}. Write "
            f"{last}...{first}."
        )
