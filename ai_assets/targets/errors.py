"""What keeps a target of ours from serving a release; `status` shows the sentence, and it is tried again."""

from collections.abc import Sequence

from ai_assets.base.errors import UserError
from ai_assets.base.plural import plural


class TargetAddressMissing(UserError):
    def __init__(self, variable: str, example: str) -> None:
        super().__init__(f"{variable} is not set; this target reads its address there, such as {example}.")


class TargetNameUnfit(UserError):
    def __init__(self, name: str) -> None:
        super().__init__(f"'{name}' cannot begin the names of tables: write small letters, digits and underscores.")


class TargetUnreached(UserError):
    def __init__(self, what: str, found: str) -> None:
        super().__init__(f"{what} cannot be used: {found}")


class VectorsOfAnotherLength(UserError):
    def __init__(self, name: str, there: int, wanted: int) -> None:
        super().__init__(
            f"The tables {name}_... have vectors of {plural(there, 'number')}, and "
            f"the release of {wanted}. Give the target "
            "another 'name', and drop those tables when nobody reads them any more."
        )


class ReleaseNotWritten(UserError):
    def __init__(self, name: str, number: int) -> None:
        super().__init__(
            f"Release {number} is not in the tables {name}_... any more, though it was written there: "
            "ai-assets targets rebuild writes it anew."
        )


class WebhookRefused(UserError):
    def __init__(self, url: str, found: str) -> None:
        super().__init__(f"{url} did not take the release: {found}.")


class NameTakenInQdrant(UserError):
    def __init__(self, name: str, found: str) -> None:
        super().__init__(f"'{name}' in Qdrant {found}, which this target did not make: give the target another 'name'.")


class ReleaseNotInQdrant(UserError):
    def __init__(self, place: str) -> None:
        super().__init__(
            f"Qdrant does not have the collection {place} any more as it was written: ai-assets targets rebuild writes "
            "it anew."
        )


class FilesOfAnother(UserError):
    def __init__(self, where: str, found: str) -> None:
        super().__init__(f"{where} holds {found}, which this target did not write: give it a place of its own.")


class ReleaseFilesNotThere(UserError):
    def __init__(self, where: str, name: str) -> None:
        super().__init__(
            f"{where} does not hold {name} any more, though it was written there: ai-assets targets rebuild writes it "
            "anew."
        )


class NoSuchTarget(UserError):
    def __init__(self, collection: str, found: str | None, known: Sequence[str]) -> None:
        what = f"{collection} has no target" + ("" if found is None else f" '{found}'")
        there = f"; it has {', '.join(known)}." if known else ": nothing stands under publish.to in its defs.yaml."
        super().__init__(what + there)


class ReleaseBytesGone(UserError):
    def __init__(self, collection: str, release: int, found: str) -> None:
        super().__init__(
            f"No target can be rebuilt from release {release} of {collection}: {found}. A backup of before then has "
            "them: ai-assets restore FROM --to ANOTHER-HOME"
        )
