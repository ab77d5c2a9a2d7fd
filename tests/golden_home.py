"""A small home with everything a version leaves behind, and what must stay as it is when a later version continues it.

`python tests/golden_home.py FOLDER` makes one with the version at hand; that of `tests/data/home_0_1` was made at
commit 3e357be, before the library moved under one import root. The keys come from fixed seeds: none is committed.
"""

import json
import os
import shutil
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from conftest import LABELS, REPOSITORY, Project, project_at
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from provider import Provider
from signing import current, decide, known

from ai_assets.collection.loading import Collection, load_collection
from ai_assets.signoff import corrections, keys, releases
from ai_assets.signoff.publication import publish
from ai_assets.storage.digest import canonical_json

GOLDEN = Path(__file__).parent / "data" / "home_0_1"
EXPECTED = GOLDEN / "expected.json"
NAME = "notes"
_SEEDS: dict[keys.Kind, bytes] = {"recorder": b"\1" * 32, "decision": b"\2" * 32}
_LETTERS = {
    "claims/fire.md": "Policy HM-1. A fire broke out in the kitchen on 2026-01-09. We claim 8600 EUR for the damage.",
    "claims/pipe.txt": "Policy HM-2. A pipe burst on 2026-02-01 and water damaged the floor. We claim 1200 EUR.",
    "claims/theft.txt": "Policy HM-3. Two bicycles were stolen from the cellar on 2026-03-02. We claim 900 EUR.",
    "bills/march.txt": "Invoice 17. Total due 141.00 EUR, tax included. Payment within 14 days, please.",
    "bills/april.txt": "Invoice 18. Total due 260.00 EUR, tax included. Payment within 14 days, please.",
    "bills/torn.pdf": "%PDF-1.4 half a file",
}
_KINDS = [
    {"name": "claim", "description": "Somebody reports a loss, damage or theft and claims money for it."},
    {"name": "bill", "description": "An invoice with a total due and payment terms."},
]
DECLARED: dict[str, Any] = {
    "source": {"path": "documents"},
    "partitions": {"by": "folder"},
    "embedding": {"route": "rehearsal-embed", "dimensions": 256},
    "stages": [
        {"name": "kind", "kind": "classify", "labels": LABELS},
        {"name": "triage", "kind": "classify", "route": "default", "labels": _KINDS, "examples": ["bills/march.txt"]},
        {"name": "details", "kind": "extract", "when": {"triage": ["claim"]}, "route": "careful",
         "schema": "claim.json"},
        {"name": "summary", "kind": "summarise", "max_sentences": 2},
        {"name": "reply", "kind": "generate", "when": {"triage": ["claim"]}, "after": ["details"],
         "prompt": "reply.md", "max_output_tokens": 200},
    ],
    "golden": {"labels": "labels.jsonl", "labels_stage": "triage", "queries": "queries.jsonl"},
    "gates": [{"metric": "accuracy", "min": 0.1}, {"metric": "recall@5", "min": 0.1}],
    "quality": {"triage": [
        {"expect": "expect_column_values_to_be_in_set", "column": "status", "value_set": ["ok"], "mostly": 0.9},
    ]},
}  # fmt: skip
_BESIDE = {
    "claim.json": json.dumps({"type": "object", "properties": {"policy": {"type": "string"}}, "required": ["policy"]}),
    "reply.md": (
        "---\nversion: 1\nauthor: tests\n---\n## system\nAnswer claims in two sentences.\n\n"
        "## user\n<document>\n{{ document.text }}\n</document>\n<data>\n{{ stages.details.data }}\n</data>\n"
    ),
    "labels.jsonl": "".join(
        json.dumps({"document": name, "label": "claim" if name.startswith("claims/") else "bill"}) + "\n"
        for name in _LETTERS
        if name != "bills/torn.pdf"
    ),
    "queries.jsonl": json.dumps({"query": "a fire in the kitchen", "documents": ["claims/fire.md"]}) + "\n",
}


def write_keys(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True)
    public: dict[keys.Kind, tuple[bytes, ...]] = {}
    for kind, seed in _SEEDS.items():
        key = Ed25519PrivateKey.from_private_bytes(seed)
        path = folder / f"{kind}.pem"
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        path.chmod(0o600)
        public[kind] = (key.public_key().public_bytes_raw(),)
    (folder / keys.TRUST).write_text(canonical_json(keys.Trust(chain="golden", keys=public).as_data()))


def opened(folder: Path, patch: pytest.MonkeyPatch) -> tuple[Project, Collection, dict[str, Any]]:
    """The committed home and its project, opened in that folder, and what was true of it when it was made."""
    with tarfile.open(GOLDEN / "home.tar.xz") as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Python has it since 3.11.4
        archive.extractall(folder)
    (folder / "project" / "collections").rename(folder / "collections")
    write_keys(folder / "home" / "keys")
    project = project_at(folder, patch)
    shutil.rmtree(project.root / "collections")
    (folder / "collections").rename(project.root / "collections")
    shutil.copy(GOLDEN / "inference.yaml", project.root)
    for path, text in _LETTERS.items():
        project.document(path, text)
    return project, load_collection(project.root / "collections", NAME), json.loads(EXPECTED.read_text())


def facts(project: Project, collection: Collection) -> dict[str, Any]:
    """What no later version may change."""
    stores = project.stores()
    with stores.state.read() as connection:
        asked = connection.execute(sa.text("SELECT count(*), sum(cost_nusd) FROM attempts")).one()
        found = releases.find(connection, NAME)
        calls = connection.execute(sa.text("SELECT call_key FROM attempts ORDER BY call_key")).scalars().all()
        versions = connection.execute(
            sa.text("SELECT asset, partition, version FROM datasets ORDER BY asset, partition")
        ).all()
    return {
        "code_versions": dict(collection.code_versions),
        "attempts": asked[0],
        "cost_nusd": asked[1],
        "calls": list(calls),
        "datasets": [list(row) for row in versions],
        "requests": {key: current(stores.state, key, NAME).digest for key in ("bills", "claims")},
        "releases": [release.digest for release in found],
    }


def build(folder: Path) -> None:
    with Provider() as provider, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AI_ASSETS_REHEARSAL_URL", provider.url)
        write_keys(folder / "home" / "keys")
        project = project_at(folder, patch)
        shutil.copy(REPOSITORY / "inference.yaml", project.root)
        here = project.root / "collections" / NAME
        here.mkdir()
        for name, text in _BESIDE.items():
            (here / name).write_text(text)
        for path, text in _LETTERS.items():
            project.document(path, text)
        collection = project.declare(NAME, **DECLARED)
        stores = project.stores()
        known(stores.state, "ann")
        project.refresh(collection)
        decide(stores.state, collection)
        publish(collection, stores, by="test")
        project.edit(collection, "bills/april.txt", _LETTERS["bills/april.txt"].replace("260", "262"))
        decide(stores.state, collection)
        publish(collection, stores, by="test")
        project.edit(collection, "bills/april.txt", _LETTERS["bills/april.txt"])
        request = current(stores.state, "bills", NAME)
        corrections.correct(
            stores, collection=collection, request=request, document_id="bills/march.txt", stage="kind",
            label="incident", reason="a test", by=known(stores.state, "rose", "reviewer"),
        )  # fmt: skip
        project.refresh(collection)
        GOLDEN.mkdir(parents=True, exist_ok=True)
        EXPECTED.write_text(json.dumps(facts(project, collection), indent=1) + "\n")
        stores.state.close()
        shutil.copy(project.root / "inference.yaml", GOLDEN)
        with tarfile.open(GOLDEN / "home.tar.xz", "w:xz") as archive:
            archive.add(here, f"project/collections/{NAME}", filter=_kept)
            for part in ("state.db", "lake", "index", "checkpoints"):
                archive.add(project.home.root / part, f"home/{part}", filter=_kept)


def _kept(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return None if entry.name.endswith((".db-wal", ".db-shm")) or "/documents" in entry.name else entry


if __name__ == "__main__":
    os.umask(0o022)
    build(Path(sys.argv[1]).resolve())
