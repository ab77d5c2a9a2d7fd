"""Events of OpenLineage as a run sends them, appended to a file, and whether its own classes take them."""

import datetime
import importlib
import importlib.util
import json
import pkgutil
import uuid
from pathlib import Path
from typing import Any

import pytest

INSTALLED = importlib.util.find_spec("openlineage") is not None
needs_openlineage = pytest.mark.skipif(
    not INSTALLED, reason="OpenLineage is not here: pip install -r tests/engines.txt"
)
Event = dict[str, Any]


def appended_to(file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "file")
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__LOG_FILE_PATH", str(file))
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__APPEND", "true")
    monkeypatch.setenv("OPENLINEAGE_NAMESPACE", "north")
    return file


def events_in(file: Path) -> list[Event]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def facet_classes() -> dict[str, type]:
    """Of the package, by the schema that each is written for; ours derive from those for any."""
    from openlineage.client import generated

    found: dict[str, type] = {}
    for module in pkgutil.iter_modules(generated.__path__):
        for each in vars(importlib.import_module(f"{generated.__name__}.{module.name}")).values():
            if isinstance(each, type) and hasattr(each, "_get_schema"):
                found[each._get_schema()] = each
    return found


def our_classes() -> dict[str, type]:
    from ai_assets.lineage import events

    return {
        "ai_assets_spend": events.SpendRunFacet,
        "ai_assets_release": events.ReleaseRunFacet,
        "ai_assets_rollback": events.RollbackRunFacet,
        "ai_assets_codeVersion": events.CodeVersionJobFacet,
    }


def check_valid(event: Event) -> None:
    """What the schema of the core asks of an event, and each facet as the class of its schema takes it."""
    assert event["eventType"] in {"START", "COMPLETE", "FAIL"}
    assert datetime.datetime.fromisoformat(event["eventTime"]).tzinfo is not None
    assert event["producer"].startswith("https://")
    assert event["schemaURL"].startswith("https://openlineage.io/spec/")
    uuid.UUID(event["run"]["runId"])
    assert all(event["job"][each] for each in ("namespace", "name"))
    bags = [event["run"]["facets"], event["job"]["facets"]]
    for dataset in (*event["inputs"], *event["outputs"]):
        assert all(dataset[each] for each in ("namespace", "name"))
        bags += [dataset[key] for key in ("facets", "inputFacets", "outputFacets") if key in dataset]
    classes, ours = facet_classes(), our_classes()
    for bag in bags:
        for name, facet in bag.items():
            given = {key: value for key, value in facet.items() if not key.startswith("_")}
            assert facet["_producer"].startswith("https://")
            kind = ours.get(name) or classes[facet["_schemaURL"]]
            kind(**given)  # refuses what it does not know and what is missing


def completed(events: list[Event], job: str) -> Event:
    (found,) = [each for each in events if each["job"]["name"] == job and each["eventType"] == "COMPLETE"]
    return found
