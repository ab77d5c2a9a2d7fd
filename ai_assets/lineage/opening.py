"""Lineage of a run, where OpenLineage is configured; else nothing, and nothing is imported."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ai_assets.base.errors import UserError
from ai_assets.base.extras import need
from ai_assets.base.home import Home
from ai_assets.collection.loading import Collection
from ai_assets.lineage.configured import is_configured
from ai_assets.storage.lake import Lake

if TYPE_CHECKING:
    from ai_assets.run.sinks import Sink
    from ai_assets.signoff.releases import Release


def of_run(
    collection: Collection, lake: Lake, home: Home, descriptions: Mapping[str, str], report: Callable[[str], None]
) -> "Sink | None":
    """What cannot be done is reported: no run fails because of who listens."""
    if not is_configured(home):
        return None
    try:
        need("openlineage", "Lineage")
        from ai_assets.lineage.sink import LineageSink

        return LineageSink(collection, lake, home, descriptions, report)
    except UserError as error:
        report(str(error))
    except Exception as error:  # noqa: BLE001  # what is configured is read by OpenLineage's client
        report(f"No lineage is sent: OpenLineage is configured and cannot be used: {type(error).__name__}: {error}")
    return None


def tell_release(
    collection: Collection,
    release: "Release",
    partitions: Sequence[str],
    home: Home,
    descriptions: Mapping[str, str],
    report: Callable[[str], None],
) -> None:
    """After a publication."""
    if not partitions or not is_configured(home):
        return
    try:
        need("openlineage", "Lineage")
        from ai_assets.lineage.client import EventSender
        from ai_assets.lineage.sink import release_event

        sender = EventSender(home, report)
        sender.put(release_event(collection, release, list(partitions), descriptions))
        sender.close()
    except UserError as error:
        report(str(error))
    except Exception as error:  # noqa: BLE001  # the client is somebody else's, and it is published
        report(f"No lineage is sent of release {release.number}: {type(error).__name__}: {error}")
