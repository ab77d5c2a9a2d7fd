"""What the desk shows of models that were changed under their name: on a request, and above the runs."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from ai_assets.base.errors import UserError
from ai_assets.collection.catalog import Catalog
from ai_assets.collection.loading import Collection
from ai_assets.desk.context import Desk
from ai_assets.desk.views import View
from ai_assets.inference.canary.status import CanaryState, statuses
from ai_assets.inference.load import inference_at
from ai_assets.signoff.canaries import canary_finding
from ai_assets.signoff.frozen_candidate import current_candidate
from ai_assets.signoff.people import Person


@dataclass(frozen=True, kw_only=True)
class WatchedModel(View):
    endpoint: str
    model: str
    state: CanaryState
    said: str
    """One sentence."""
    last_at: str | None


def watched_models(desk: Desk, person: Person) -> list[WatchedModel]:
    """Those of the endpoints that a collection which the person sees may ask."""
    tenants, seen = desk.tenants(), {each.settings.tenant for each in desk.seen_by(person).values()}
    try:
        settings = inference_at(desk.stores.home)
        with desk.stores.state.read() as connection:
            found = statuses(connection, settings)
    except UserError:  # an edit broke the file: what runs says so
        return []
    return [
        WatchedModel(
            endpoint=each.endpoint, model=each.model, state=each.state, said=each.said, last_at=each.last_at
        )
        for each in found
        if any(tenants.why_not(name, each.endpoint, settings.endpoints[each.endpoint].key) is None for name in seen)
    ]  # fmt: skip


def changed_models(desk: Desk, collection: Collection, partition: str, digest: str) -> Sequence[str]:
    """Sentences about rows of a candidate that were made after a change, as it is known now."""
    candidate = current_candidate(desk.stores.lake, collection.name, partition) if collection.canaries else None
    if candidate is None or candidate.digest != digest:
        return []
    with contextlib.suppress(UserError):
        inference = Catalog(desk.stores.home).inference_of(collection.name)
        return canary_finding(desk.stores, collection.name, partition, candidate, inference).sentences
    return []
