"""What goes wrong with batches, in the error tree below `UserError`.

BatchRefused       the provider takes no such batch: its words, and the lines are free again
BatchRefusedGoesOn the same of work with a deadline, which the next run asks another way
BatchUnreachable   the provider cannot be reached, and nothing was sent
BatchUnknown       a command names a batch that is not here, or several
BatchBusy          another process is at it
BatchEndpointGone  nobody says any more where it is
RehearsalForgets   a rehearsal provider that ends with the run cannot hold a batch
RawInBatch         a call of a client of the provider's own
WaitingForBatch    an asset of a partition has calls in a batch; no error: the run ends, and another one goes on
ProviderSilent     no answer, or none that says what was done: it may have been done
BatchApiRefused    an answer that says that nothing was done
"""

from collections.abc import Mapping, Sequence

from ai_assets.base.errors import UserError
from ai_assets.inference.batch.pending import HeldBudget
from ai_assets.inference.deadline import Way
from ai_assets.inference.postponed import AssetPostponed
from ai_assets.protocols.faults import ErrorBody, class_of

WAYS: Mapping[Way, str] = {"batch": "by batch", "flex": "at the tier flex", "sync": "one by one"}


class BatchRefused(UserError):
    def __init__(self, endpoint: str, step: str, said: str) -> None:
        super().__init__(
            f"The provider of endpoint '{endpoint}' did not {step}: {said}. Its lines are free again, and nothing was "
            "billed. Fix the cause (the key, the model, the endpoint's 'batch' in inference.yaml) and run again."
        )


class BatchRefusedGoesOn(UserError):
    """The same of work that has a deadline."""

    passes = True

    def __init__(self, refused: BatchRefused, then: Way) -> None:
        super().__init__(f"{refused} What is due does not wait for that: the next run asks it {WAYS[then]}.")


class BatchUnreachable(UserError):
    passes = True

    def __init__(self, endpoint: str, step: str, said: str) -> None:
        super().__init__(
            f"The provider of endpoint '{endpoint}' could not be asked to {step}: {said}. Nothing was billed, and the "
            "calls are free again. Run again once it answers."
        )


class BatchUnknown(UserError):
    def __init__(self, asked: str, fitting: int) -> None:
        found = "there is none" if not fitting else f"it fits {fitting}"
        super().__init__(f"No batch is meant by '{asked}': {found}. See all: ai-assets batches list --all")


class BatchBusy(UserError):
    passes = True

    def __init__(self, job: str) -> None:
        super().__init__(
            f"Another process reads or submits batch {job} at this moment, so nothing was changed. Try again in a "
            "minute."
        )


class BatchEndpointGone(UserError):
    def __init__(self, job: str, endpoint: str) -> None:
        super().__init__(
            f"Batch {job} is at the provider of endpoint '{endpoint}', which inference.yaml has no more. Bring it back "
            "to collect its answers or to stop it."
        )


class RehearsalForgets(UserError):
    def __init__(self, endpoint: str) -> None:
        super().__init__(
            f"Endpoint '{endpoint}' is the rehearsal provider, which a run starts for itself and which forgets its "
            "batches when the run ends. Start one that stays (ai-assets provider), and name it in "
            "AI_ASSETS_REHEARSAL_URL."
        )


class RawInBatch(UserError):
    def __init__(self) -> None:
        super().__init__(
            "A call of the provider's own client cannot travel in a batch: ask a question or embed a text, or take "
            "'tier: batch' away."
        )


class WaitingForBatch(AssetPostponed):
    """`held`: it asks one by one, and this budget has no money for it before a batch has ended."""

    def __init__(
        self,
        asset: str,
        partition: str,
        *,
        calls: int = 0,
        waiting: int = 0,
        budgets: Sequence[str] = (),
        held: HeldBudget | None = None,
    ) -> None:
        budgets = (held.name,) if held is not None else tuple(budgets)
        super().__init__(waiting_said(calls - waiting, calls, budgets), asset, partition)
        self.calls, self.waiting, self.budgets, self.held = calls, waiting, budgets, held


def waiting_said(answered: int, calls: int, budgets: Sequence[str] = ()) -> str:
    said = f"waiting for batch, {answered:,} of {calls:,} answered" if calls else "waiting for batch"
    if not budgets:
        return said
    named = " and ".join(f"'{name}'" for name in budgets)
    return f"{said}: what is left of budget {named} is reserved by batches on their way"


class ProviderSilent(Exception):
    """`sent`: whether the request can have reached it."""

    def __init__(self, said: str, *, sent: bool = True) -> None:
        super().__init__(said)
        self.sent = sent


class BatchApiRefused(Exception):
    def __init__(self, status: int, said: str, *, code: str = "") -> None:
        super().__init__(said)
        self.status = status
        self._class = class_of(status, ErrorBody(said=said, code=code))

    @property
    def passes(self) -> bool:
        """It is busy, and may take the same request later."""
        return self._class == "rate_limited"

    @property
    def is_conflict(self) -> bool:
        """What was asked for may be there already."""
        return self.status == 409

    @property
    def is_gone(self) -> bool:
        return self.status in (404, 410)
