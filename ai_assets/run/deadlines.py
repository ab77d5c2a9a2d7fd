"""How an asset of a run asks: by batch or one by one as it declares, or by its deadline as that is best."""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeAlias

from ai_assets.collection.deadlines import deadlines_of, levels_after
from ai_assets.run.context import Work

if TYPE_CHECKING:
    from ai_assets.inference.batch.pending import Pending
    from ai_assets.inference.records import Caller, Request, RequestKind, Result

Asking: TypeAlias = "Callable[[Iterable[Request], Caller], Iterator[Result | Pending]]"


def asking_of(
    work: Work, asset: str, route: str | None, calls: int, *, by_batch: bool, asks_for: "RequestKind" = "chat"
) -> Asking:
    """`calls`: at most so many are asked."""
    deadline = deadlines_of(work.collection.settings).get(asset)
    if deadline is None or route is None:
        return work.batches.map if by_batch else work.engine.map
    from ai_assets.inference.by_deadline import DueWork

    levels = levels_after(work.collection, asset)
    due = DueWork(deadline=deadline, route=route, calls=calls, asks_for=asks_for, levels=levels)
    return lambda requests, caller: work.by_deadline.map(requests, caller, due)
