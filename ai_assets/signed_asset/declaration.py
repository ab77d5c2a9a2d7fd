"""What is declared of a signed asset, the collection that it is to the rest of the house, and its record in the home.

The record is for the desk and the command line, which cannot load a stranger's project. Publication goes by the
declaration itself.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydantic import ValidationError

from ai_assets.base.home import Home
from ai_assets.collection.contract import Contract, ContractSettings, DeclaredContract
from ai_assets.collection.contract_reading import read_contract_file
from ai_assets.collection.errors import CollectionInvalid, CollectionNameInvalid
from ai_assets.collection.loading import Collection, check_name
from ai_assets.collection.settings import CollectionSettings, SignoffSettings
from ai_assets.signed_asset.errors import SignedAssetTaken, SignedAssetWrong
from ai_assets.storage.digest import canonical_json
from ai_assets.storage.state import StateStore, now, upsert

ALL = "all"
"""The partition of an asset that has none."""
PREFIX = "signed"
CANDIDATE, SIGN_OFF, PUBLISHED = "_candidate", "_sign_off", ""
"""What is added to the name. No key in Dagster begins with that of the asset, whose stored value is a file there."""


def path_of(name: str, of: str) -> list[str]:
    """The key of an asset that belongs to a signed one."""
    return [PREFIX, f"{name}{of}"]


@dataclass(frozen=True, kw_only=True)
class SignedAsset:
    """An asset whose rows are released only as people have signed them."""

    name: str
    """Of its requests and releases, and of the group in Dagster."""
    asset: str
    """The key of the user's asset, as Dagster writes it."""
    key: tuple[str, ...] = ()
    """The columns that identify a row; without them it is known by its content."""
    signoff: SignoffSettings = field(default_factory=SignoffSettings)
    description: str = ""
    owners: tuple[str, ...] = ()
    tenant: str = "default"
    contract: ContractSettings | None = None
    promised: DeclaredContract | None = None
    """What it amounts to, with what its file says."""

    def __post_init__(self) -> None:
        try:
            check_name(self.name)
        except CollectionNameInvalid as error:
            problem = (
                f"it cannot be called '{self.name}'; give it a name= of lower-case letters, digits and underscores"
            )
            raise SignedAssetWrong(self.asset, problem) from error

    def collection(self, *, recorded: bool = False) -> Collection:
        settings = {
            "description": self.description, "owners": self.owners, "tenant": self.tenant, "schedule": None,
            "source": {"path": "."}, "partitions": {"by": "folder"}, "signoff": self.signoff,
            "contract": self.contract,
        }  # fmt: skip
        try:
            declared = CollectionSettings.model_validate(settings)
        except ValidationError as error:
            raise SignedAssetWrong(self.asset, _said(error)) from error
        return Collection(
            name=self.name,
            folder=Home.from_environment().project,
            settings=declared,
            signed_asset=self.asset,
            is_record=recorded,
            contract=self.promised,
        )

    def as_data(self) -> dict[str, Any]:
        data = {
            "key": list(self.key), "signoff": self.signoff.model_dump(mode="json"), "description": self.description,
            "owners": list(self.owners), "tenant": self.tenant,
        }  # fmt: skip
        if self.contract is None or self.promised is None:
            return data
        settings = self.contract.model_dump(mode="json", exclude_defaults=True)
        return {**data, "contract": settings, "promised": self.promised.contract.as_data()}

    @classmethod
    def of_row(cls, name: str, asset: str, declared: str) -> "SignedAsset":
        data = json.loads(declared)
        found = data.get("contract")
        contract = None if found is None else ContractSettings.model_validate(found)
        return cls(
            name=name,
            asset=asset,
            key=tuple(data["key"]),
            signoff=SignoffSettings.model_validate(data["signoff"]),
            description=data["description"],
            owners=tuple(data["owners"]),
            tenant=data["tenant"],
            contract=contract,
            promised=None if contract is None else _of_asset(asset, contract, Contract.from_data(data["promised"])),
        )


def rules(asset: str, declared: Mapping[str, Any]) -> SignoffSettings:
    """The keys of `signoff` in defs.yaml."""
    try:
        return SignoffSettings.model_validate(dict(declared))
    except ValidationError as error:
        raise SignedAssetWrong(asset, _said(error)) from error


def promises(asset: str, name: str, declared: Mapping[str, Any]) -> tuple[ContractSettings, DeclaredContract]:
    """The keys of `contract` in defs.yaml; its file is beside the project's definitions."""
    try:
        settings = ContractSettings.model_validate(dict(declared))
    except ValidationError as error:
        raise SignedAssetWrong(asset, f"contract: {_said(error)}") from error
    if settings.file is None:
        assert settings.version is not None
        contract = Contract(version=settings.version, columns=settings.columns, chunks=settings.chunks)
        found = _of_asset(asset, settings, contract)
    else:
        file = Home.from_environment().project / settings.file
        if not file.is_file():
            problem = f"contract file {file} does not exist; make it of what is live: ai-assets contract {name} --write"
            raise SignedAssetWrong(asset, problem)
        try:
            found = replace(read_contract_file(file, name, settings), asset=asset)
        except CollectionInvalid as error:
            raise SignedAssetWrong(asset, str(error)) from error
    if found.contract.chunks:
        raise SignedAssetWrong(asset, "its contract promises chunks, and it has none: write `columns` alone")
    return settings, found


def _of_asset(asset: str, settings: ContractSettings, contract: Contract) -> DeclaredContract:
    path = None if settings.file is None else Path(settings.file)
    return DeclaredContract(contract=contract, on_break=settings.on_break, path=path, lines={}, asset=asset)


def _said(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in (*first["loc"], *first.get("ctx", {}).get("at", ())))
    return f"{where}: {first['msg'].removeprefix('Value error, ')}" if where else first["msg"]


def record(state: StateStore, declared: SignedAsset, home: Home) -> None:
    """In the home, where it is new or was declared otherwise. A name that is somebody else's is refused."""
    text = canonical_json(declared.as_data())
    with state.read() as connection:
        found = _row(connection, declared.name)
    if (home.project / "collections" / declared.name).is_dir():
        raise SignedAssetTaken(declared.name, declared.asset, "a collection of this project")
    if found is not None and found.asset != declared.asset:
        raise SignedAssetTaken(declared.name, declared.asset, f"the asset {found.asset}")
    if found is None or found.declared != text:
        with state.write() as connection:
            values = {"asset": declared.asset, "declared": text, "recorded_at": now()}
            upsert(connection, "signed_assets", {"name": declared.name}, values)


def _row(connection: sa.Connection, name: str) -> sa.Row[Any] | None:
    return connection.execute(sa.text("SELECT * FROM signed_assets WHERE name = :n"), {"n": name}).one_or_none()


def recorded(state: StateStore) -> dict[str, Collection]:
    """By name, the collections that signed assets are, as they were declared when they last ran."""
    with state.read() as connection:
        rows = connection.execute(sa.text("SELECT name, asset, declared FROM signed_assets ORDER BY name")).all()
    return {
        row.name: SignedAsset.of_row(row.name, row.asset, row.declared).collection(recorded=True) for row in rows
    }  # fmt: skip
