"""Lineage of a run, where OpenLineage is configured; else nothing, and nothing is imported."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from ai_assets.base.errors import UserError
from ai_assets.base.extras import need
from ai_assets.base.home import Home
from ai_assets.collection.loading import Collection
from ai_assets.lineage.configured import is_configured
from ai_assets.storage.lake import Lake

if TYPE_CHECKING:
    from openlineage.client.event_v2 import RunEvent as LineageEvent

    from ai_assets.lineage.cost_lineage import CostLineage
    from ai_assets.run.sinks import Sink
    from ai_assets.signoff.audit import Record
    from ai_assets.signoff.releases import Release

T = TypeVar("T")
_UNUSABLE = "No lineage is sent: OpenLineage is configured and cannot be used"


def of_run(
    collection: Collection, lake: Lake, home: Home, descriptions: Mapping[str, str], report: Callable[[str], None]
) -> "Sink | None":
    def made() -> "Sink":
        from ai_assets.lineage.sink import LineageSink

        return LineageSink(collection, lake, home, descriptions, report)

    return _attempted(home, made, _UNUSABLE, report)


def of_costs(
    home: Home, run_id: str, descriptions: dict[str, str], report: Callable[[str], None]
) -> "CostLineage | None":
    """Of a run that builds the cost warehouse."""

    def made() -> "CostLineage":
        from ai_assets.lineage.cost_lineage import CostLineage

        return CostLineage(home, run_id, descriptions, report)

    return _attempted(home, made, _UNUSABLE, report)


def tell_release(
    collection: Collection,
    release: "Release",
    partitions: Sequence[str],
    home: Home,
    description: str,
    report: Callable[[str], None],
) -> None:
    """After a publication; `description` is of the asset `published`."""

    def event() -> "LineageEvent":
        from ai_assets.lineage.sink import release_event

        return release_event(collection, release, list(partitions), description)

    if partitions:
        _tell(home, event, f"publication of release {release.number}", report)


def tell_rollback(
    collection: Collection, release: "Release", record: "Record", home: Home, report: Callable[[str], None]
) -> None:
    """After it: `release` is live again, as the record of the audit chain says."""

    def event() -> "LineageEvent":
        from ai_assets.lineage.sink import rollback_event

        return rollback_event(collection, release, record)

    _tell(home, event, f"rollback to release {release.number}", report)


def _tell(home: Home, event: "Callable[[], LineageEvent]", of: str, report: Callable[[str], None]) -> None:
    def sent() -> None:
        from ai_assets.lineage.client import EventSender

        sender = EventSender(home, report, of)
        sender.put(event())
        sender.close()

    _attempted(home, sent, f"No lineage is sent of the {of}", report)


def _attempted(home: Home, made: Callable[[], T], problem: str, report: Callable[[str], None]) -> T | None:
    """What cannot be done is reported: no run and no publication fails because of who listens."""
    if not is_configured(home):
        return None
    try:
        need("openlineage", "Lineage")
        return made()
    except UserError as error:
        report(str(error))
    except Exception as error:  # noqa: BLE001  # the client and its configuration are somebody else's
        report(f"{problem}: {type(error).__name__}: {error}")
    return None
