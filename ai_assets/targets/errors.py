"""What keeps a target of ours from serving a release; `status` shows the sentence, and it is tried again."""

from ai_assets.base.errors import UserError


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
            f"The tables {name}_... have vectors of {there} numbers, and the release of {wanted}. Give the target "
            "another 'name', and drop those tables when nobody reads them any more."
        )


class ReleaseNotWritten(UserError):
    def __init__(self, name: str, number: int) -> None:
        super().__init__(
            f"Release {number} is not in the tables {name}_... any more, though it was written there. Give the target "
            "another 'name'; it is written anew then."
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
            f"Qdrant does not have the collection {place} any more as it was written. Give the target another 'name'; "
            "it is written anew then."
        )


class FilesOfAnother(UserError):
    def __init__(self, where: str, found: str) -> None:
        super().__init__(f"{where} holds {found}, which this target did not write: give it a place of its own.")


class ReleaseFilesNotThere(UserError):
    def __init__(self, where: str, name: str) -> None:
        super().__init__(
            f"{where} does not hold {name} any more, though it was written there. Give the target another place; it is "
            "written anew then."
        )
