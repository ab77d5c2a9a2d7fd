"""A step of a row's provenance as a record, and what steps are made from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa

from ai_assets.collection.loading import Collection
from ai_assets.signoff import audit, requests
from ai_assets.signoff.audit import Record
from ai_assets.signoff.releases import Part, Release
from ai_assets.signoff.requests import SignoffRequest
from ai_assets.storage.digest import Json
from ai_assets.storage.stores import Stores

StepName = Literal[
    "bytes", "parse", "passages", "vectors", "prompt", "call", "answer", "checks", "gates", "held", "correction",
    "decision", "release", "target",
]  # fmt: skip
LinkKind = Literal["document", "released", "answer", "run", "request", "release", "held", "quality"]


@dataclass(frozen=True, kw_only=True)
class StepLink:
    """Where more is said of it: the desk makes an address of this, the command a command."""

    kind: LinkKind
    names: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class ProvenanceStep:
    step: StepName
    of: str | None = None
    """The stage, gate, target or person that it is of."""
    facts: Mapping[str, Json] = field(default_factory=dict)
    messages: tuple[Mapping[str, str], ...] = ()
    """The rendered prompt, by role."""
    missing: str | None = None
    """What is not known, and why, in a sentence."""
    link: StepLink | None = None


@dataclass(frozen=True, kw_only=True)
class FoundRow:
    """A row, and where it was found."""

    document: str
    partition: str
    chunk: str | None
    release: Release | None
    row: Mapping[str, Any]
    chunks: Path | None
    """The file that has its passages."""

    @property
    def part(self) -> Part | None:
        return None if self.release is None else self.release.parts[self.partition]


@dataclass(kw_only=True)
class Facts:
    """What steps are made from; sums up what calls cost on the way."""

    connection: sa.Connection
    collection: Collection
    stores: Stores
    found: FoundRow
    sees: Callable[[str], bool]
    own_only: bool
    live: int | None
    missing: str | None
    """Why nothing of the row can be read."""
    cost_usd: float = 0.0
    maybe_usd: float = 0.0
    request: SignoffRequest | None = None
    records: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        part = self.found.part
        if part is None:
            self.request = requests.latest_of(self.connection, self.collection.name, self.found.partition)
        else:
            self.request = requests.get(self.connection, part.request_id)
        if self.request is not None:
            self.records = list(audit.records(self.connection, request_ids=[self.request.request_id]))

    @property
    def row(self) -> Mapping[str, Any]:
        return self.found.row

    def version(self, asset: str) -> str | None:
        """Digest of the settings and the code that made it."""
        if self.found.part is not None:
            return self.found.part.code_versions.get(asset)
        manifest = self.stores.lake.manifest(self.collection.name, asset, self.found.partition)
        return None if manifest is None else manifest.code_version

    def document_link(self, **more: str) -> StepLink | None:
        if self.found.release is not None and self.missing is None:
            names = {
                "collection": self.collection.name, "release": str(self.found.release.number),
                "partition": self.found.partition, "document": self.found.document, **more,
            }  # fmt: skip
            return StepLink(kind="released", names=names)
        if self.request is not None:
            return StepLink(
                kind="document", names={"request": self.request.request_id, "document": self.found.document, **more}
            )
        return self.run_link()

    def run_link(self) -> StepLink | None:
        part = self.found.part
        if part is not None:
            run = part.run_id
        else:
            manifest = self.stores.lake.manifest(self.collection.name, "documents", self.found.partition)
            run = manifest.run_id if manifest is not None else ""
        return StepLink(kind="run", names={"collection": self.collection.name, "run": run}) if run else None

    def request_link(self) -> StepLink | None:
        return None if self.request is None else StepLink(kind="request", names={"request": self.request.request_id})


def known(**facts: Json) -> dict[str, Json]:
    return {name: value for name, value in facts.items() if value is not None}
