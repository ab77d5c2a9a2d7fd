"""Where the held documents of a collection stand: the queue with what was said, agreement of people, thresholds."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ai_assets.collection.loading import Collection
from ai_assets.signoff import hold_certificates, holds
from ai_assets.signoff.hold_certificates import HoldCertificate
from ai_assets.signoff.holds import HeldDocument, HoldDecision, HoldRuling
from ai_assets.statistics.agreement import by_pair, cohens_kappa, krippendorffs_alpha


@dataclass(frozen=True, kw_only=True)
class HeldItem:
    held: HeldDocument
    ruling: HoldRuling
    reviewers: int

    @property
    def state(self) -> str:
        """What is to be done."""
        if self.ruling.decided is not None:
            return "joins with the next request"
        if len(self.ruling.given) >= self.reviewers:
            return "a third decides"
        if self.ruling.given:
            return "a second person is needed"
        return "waits"

    def waits_for(self, person: str) -> bool:
        return self.ruling.decided is None and person not in self.ruling.authors

    @property
    def plain(self) -> dict[str, object]:
        given = [
            {"author": each.author, "decision": each.decision, "label": each.label, "reason": each.reason,
             "made_at": each.made_at} for each in self.ruling.given
        ]  # fmt: skip
        return {**vars(self.held), "state": self.state, "decisions": given}


@dataclass(frozen=True, kw_only=True)
class PairAgreement:
    one: str
    other: str
    n: int
    kappa: float | None
    """Cohen's."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    documents: int
    """Judged by two people or more."""
    alpha: float | None
    """Krippendorff's, of all who judged."""
    pairs: Sequence[PairAgreement]


@dataclass(frozen=True, kw_only=True)
class HeldStatus:
    items: Sequence[HeldItem]
    agreement: Agreement
    certificates: Sequence[HoldCertificate]
    """The newest of each stage that declares one."""


def held_status(
    connection: sa.Connection, collection: Collection, *, partition: str | None = None, stage: str | None = None
) -> HeldStatus:
    given = holds.decisions_of(connection, collection.name)
    declared = {each.name: each.hold for each in collection.holding if each.hold is not None}
    items = [
        HeldItem(held=held, ruling=given.about(held.subject, hold.reviewers), reviewers=hold.reviewers)
        for held in holds.queue(connection, collection.name, partition=partition, stage=stage)
        if (hold := declared.get(held.stage)) is not None
    ]
    certified = [name for name, hold in declared.items() if hold.certified is not None]
    newest = (hold_certificates.newest(connection, collection.name, name) for name in certified)
    return HeldStatus(
        items=items,
        agreement=agreement(given.every),
        certificates=[found for found in newest if found is not None],
    )


def agreement(given: Sequence[HoldDecision]) -> Agreement:
    """Of what people said first about a text and answer, before they knew what came of it."""
    things: dict[tuple[str, ...], dict[str, Hashable]] = {}
    for each in sorted(given, key=lambda each: each.seq):
        things.setdefault(each.subject, {}).setdefault(each.author, each.word)
    judged: list[Mapping[str, Hashable]] = [opinions for opinions in things.values() if len(opinions) > 1]
    pairs = [
        PairAgreement(one=one, other=other, n=len(said), kappa=cohens_kappa(said))
        for (one, other), said in sorted(by_pair(judged).items())
    ]
    return Agreement(documents=len(judged), alpha=krippendorffs_alpha(judged), pairs=pairs)
