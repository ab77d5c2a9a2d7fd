"""A project with something to sign, and people to sign it, for tests of the desk's pages."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import STAGE, Project, project_at, text_of
from desks import DeskProcess, desk
from signing import current, known

from ai_assets.collection.loading import Collection
from ai_assets.signoff import audit
from ai_assets.signoff.publication import publish
from ai_assets.signoff.requests import SignoffRequest
from ai_assets.storage.stores import Stores

DAYS = [f"2026-10-{day:02d}" for day in range(5, 17)]
ODD = f'{DAYS[0]}/a "b" <i>c<u> 100% & #1 ümlaut?.txt'
HOSTILE = '<script>alert(1)</script> A "leak" in the pump\'s hall {{ 7 * 7 }} & a fire. <img src=x onerror=alert(2)>'


@dataclass(frozen=True, kw_only=True)
class Story:
    project: Project
    stores: Stores
    notes: Collection
    running: DeskProcess

    def latest(self, partition: str, collection: str = "notes") -> SignoffRequest:
        return current(self.stores.state, partition, collection)

    def actions(self, request: SignoffRequest) -> list[str]:
        """What the chain holds of a request."""
        with self.stores.state.read() as connection:
            return [record.action for record in audit.records(connection, request_ids=[request.request_id])]

    def publish(self) -> None:
        publish(self.notes, self.stores, by="test")

    def refresh(self, partition: str) -> None:
        self.project.refresh(self.notes, [partition])


def tell(folder: Path) -> Project:
    """`notes` has twelve days with labels; `strict` one day whose only gate failed and may be waived."""
    with pytest.MonkeyPatch.context() as patch:
        project = project_at(folder, patch)
        days: dict[str, Any] = {"by": "day", "start": DAYS[0], "end": DAYS[-1]}
        for number, day in enumerate(DAYS):
            for place in range(2):
                project.document(f"{day}/{place}.txt", text_of(2 * number + place))
        project.document(ODD, HOSTILE)
        project.refresh(project.declare(partitions=days, stages=[dict(STAGE)]))
        project.document(f"{DAYS[0]}/0.txt", text_of(1), "strict")
        project.document(f"{DAYS[0]}/1.txt", "Something else.", "strict")
        golden = project.root / "collections/strict/golden.jsonl"
        golden.write_text(json.dumps({"query": "hall", "documents": [f"{DAYS[0]}/1.txt"]}))
        gate = {"metric": "recall@1", "min": 1.0, "waivable": True}
        suite = [{"expect": "expect_column_values_to_be_in_set", "column": "language", "value_set": ["nl"],
                  "blocking": False, "note": "Other languages are read by hand."},
                 {"expect": "expect_column_values_to_be_unique", "column": "document_id"}]  # fmt: skip
        project.refresh(
            project.declare(
                "strict",
                partitions={**days, "end": DAYS[0]},
                golden={"queries": "golden.jsonl"},
                gates=[gate],
                quality={"documents": suite},
            )
        )
    return project


@contextmanager
def story(folder: Path, as_told: Project) -> Iterator[Story]:
    """What was told goes on in this folder, with a desk that runs and people to use it."""
    with pytest.MonkeyPatch.context() as patch:
        project = project_at(folder, patch)
        notes = project.copy(as_told)
        with project.stores() as stores:
            known(stores.state, "ann")
            known(stores.state, "bob")
            known(stores.state, "rita", "reviewer")
            known(stores.state, "vic", "viewer")
            known(stores.state, "nob", None)
            with desk(project) as running:
                yield Story(project=project, stores=stores, notes=notes, running=running)
