"""Assets that a run leaves to a later one, without an error: their calls travel in a batch, or must not leave yet."""

import datetime
from collections.abc import Sequence

from ai_assets.base.errors import AiAssetsError
from ai_assets.base.plural import plural
from ai_assets.base.windows import Opening


class AssetPostponed(AiAssetsError):
    """Its run ends without this dataset and without an error; a later run finds the answers in the ledger."""

    def __init__(self, said: str, asset: str, partition: str) -> None:
        super().__init__(said)
        self.asset, self.partition = asset, partition


class WaitingForWindow(AssetPostponed):
    """`documents` are those without a row yet. `moment` is by the state store's clock."""

    def __init__(
        self, asset: str, partition: str, *, opens: Opening | None, moment: datetime.datetime, documents: int
    ) -> None:
        super().__init__(window_said(opens, moment, documents), asset, partition)
        self.opens, self.documents = opens, documents


class PartitionPostponed(AiAssetsError):
    """The same of all assets of a partition that wait."""

    def __init__(self, waits: Sequence[AssetPostponed]) -> None:
        super().__init__("; ".join(f"{wait.asset}: {wait}" for wait in waits))
        self.waits = tuple(waits)


def window_said(opens: Opening | None, moment: datetime.datetime, documents: int) -> str:
    number = plural(documents, "document")
    if opens is None:
        return f"waiting for its window, which never opens, {number}"
    return f"waiting for its window until {opens.said(moment)}, {number}"
