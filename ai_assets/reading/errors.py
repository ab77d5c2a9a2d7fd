"""What keeps somebody from reading a release."""

from pathlib import Path

from ai_assets.base.errors import UserError


class HomeMissing(UserError):
    def __init__(self, root: Path) -> None:
        super().__init__(
            f"There is no home at {root}. Say where the project is: ai_assets.live(NAME, project='...'), or set "
            "AI_ASSETS_HOME; who has the data alone reads it with data= and trust=."
        )


class NothingLiveThen(UserError):
    def __init__(self, collection: str, moment: str) -> None:
        super().__init__(f"{collection} had no live release at {moment} (UTC): its first one came later.")


class MomentUnclear(UserError):
    def __init__(self, found: str) -> None:
        super().__init__(f"'{found}' is no day or time: write 2026-11-01 or 2026-11-01T12:00:00+00:00.")


class TrustMissing(UserError):
    def __init__(self, data: str) -> None:
        super().__init__(
            f"Whoever can write {data} could put another release there. Say whom you believe: trust= is the file "
            "keys/trust.json of the home that publishes, which is not secret."
        )


class DataNotSigned(UserError):
    def __init__(self, data: str, found: str) -> None:
        super().__init__(
            f"{data} cannot be read as a release: {found}. The home that publishes puts it right "
            "(ai-assets publish NAME); whom you believe is in its keys/trust.json."
        )


class NotInDataAlone(UserError):
    def __init__(self, collection: str, wanted: str, live: int) -> None:
        super().__init__(
            f"The data of {collection} alone tells what is live, which is release {live}; {wanted} is read where the "
            "home's state store is reached."
        )


class DollarsUnwritten(UserError):
    def __init__(self, collection: str, number: int, partition: str) -> None:
        super().__init__(
            f"Release {number} of {collection} was published by an earlier version, which wrote no dollars beside the "
            f"rows of {partition}: its next publication does, and where AI_ASSETS_STATE_URL or project= says where its "
            "home is (without data=) the ledger is asked."
        )


class DollarsAltered(UserError):
    def __init__(self, collection: str, number: int, partition: str, file: str, found: str) -> None:
        super().__init__(
            f"The dollars of release {number} of {collection}, {partition}, are not those that were published: "
            f"{file} {found}. The rows are read without with_dollars(); the file comes from a backup, and where "
            "AI_ASSETS_STATE_URL or project= says where the home is (without data=) the ledger is asked."
        )


class TableUnknown(UserError):
    def __init__(self, found: str, known: tuple[str, ...]) -> None:
        super().__init__(f"A release has no table '{found}'; it has {' and '.join(known)}.")


class ColumnsMissing(UserError):
    def __init__(self, collection: str, number: int, missing: list[str], known: list[str]) -> None:
        super().__init__(f"Release {number} of {collection} has no column '{missing[0]}'; it has {', '.join(known)}.")


class PartitionUnreleased(UserError):
    def __init__(self, collection: str, number: int, partition: str, known: list[str]) -> None:
        shown = ", ".join(known[:10]) + (f" and {len(known) - 10} more" if len(known) > 10 else "")
        super().__init__(f"Release {number} of {collection} has no partition '{partition}'; it has {shown}.")


class ExportPlaceTaken(UserError):
    def __init__(self, to: Path, wanted: str, found: str) -> None:
        super().__init__(
            f"{to} has {found} in it, which an export as {wanted} did not write. Name a folder of its own for it."
        )


class DeltaOvertaken(UserError):
    def __init__(self, path: Path) -> None:
        super().__init__(f"Somebody else committed to the Delta table {path} meanwhile. Run the export again.")


class NoDeltaType(UserError):
    def __init__(self, column: str, found: str) -> None:
        super().__init__(f"Delta has no type for the column '{column}' ({found}). Export as parquet or jsonl instead.")
