"""`signed(asset)` as Dagster definitions: the candidate, the sign-off mirror, what is published, and what watches."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from ai_assets.base.errors import AiAssetsError
from ai_assets.base.home import Home
from ai_assets.base.printable import printable
from ai_assets.base.tenants import DEFAULT, is_served, load_tenants
from ai_assets.orchestration.events import as_table, link_to, version_tags
from ai_assets.orchestration.segment import failure, heard, launch_of, lineage
from ai_assets.signed_asset.declaration import (
    ALL,
    CANDIDATE,
    PUBLISHED,
    SIGN_OFF,
    SignedAsset,
    path_of,
    promises,
    rules,
)
from ai_assets.signed_asset.errors import SignedAssetWrong
from ai_assets.signoff.frozen_candidate import FrozenCandidate

if TYPE_CHECKING:
    from ai_assets.run.context import Outcome

Asset = dg.AssetsDefinition | dg.AssetSpec | dg.SourceAsset | dg.AssetKey | str


def signed(
    asset: Asset,
    *,
    name: str | None = None,
    key: str | Sequence[str] = (),
    approvals: int | None = None,
    approvers: Sequence[str] | None = None,
    signoff: Mapping[str, Any] | None = None,
    description: str = "",
    owners: Sequence[str] = (),
    tenant: str = DEFAULT,
    contract: Mapping[str, Any] | None = None,
    partitions_def: "dg.PartitionsDefinition[Any] | None" = None,
) -> dg.Definitions:
    """Puts the approval gate before an asset of your own that returns rows: a list of dicts, a DataFrame, a table.

    Merge what it returns with your definitions. `signed/<name>_candidate` freezes the rows and asks for sign-off;
    `signed/<name>` returns exactly the rows that people signed, and never others. `key` names the columns that identify
    a row. `signoff` takes the keys of `signoff` in defs.yaml, of which `approvals` and `approvers` are two; `contract`
    those of `contract`, what readers may rely on of the columns. Where tenants are declared, `tenant` is one of them.
    """
    asset_key = _key(asset)
    found = asset_key.to_user_string()
    called = name or "_".join(asset_key.path)
    settings, promised = (None, None) if contract is None else promises(found, called, contract)
    given = {"approvals": approvals, "approvers": None if approvers is None else tuple(approvers)}
    declared = SignedAsset(
        name=called,
        asset=found,
        key=(key,) if isinstance(key, str) else tuple(key),
        signoff=rules(found, {**(signoff or {}), **{k: value for k, value in given.items() if value is not None}}),
        description=description,
        owners=tuple(owners),
        tenant=tenant,
        contract=settings,
        promised=promised,
    )
    home = Home.from_environment()
    load_tenants(home.operations).require(tenant, f"the signed asset '{declared.name}'")
    if not is_served(tenant, home):
        return dg.Definitions()
    partitions = partitions_def or (asset.partitions_def if isinstance(asset, dg.AssetsDefinition) else None)
    return _definitions(declared, asset_key, partitions, _sources(asset))


def _key(asset: Asset) -> dg.AssetKey:
    if isinstance(asset, str):
        return dg.AssetKey.from_user_string(asset)
    if isinstance(asset, dg.AssetsDefinition):
        if len(asset.keys) != 1:
            names = ", ".join(sorted(key.to_user_string() for key in asset.keys))
            raise SignedAssetWrong(names, "it is several assets; name one of them by its key")
        return asset.key
    return asset if isinstance(asset, dg.AssetKey) else asset.key


def _sources(asset: Asset) -> tuple[Path, ...]:
    """The file that the asset is written in."""
    if not isinstance(asset, dg.AssetsDefinition):
        return ()
    compute = getattr(asset.node_def, "compute_fn", None)
    function = getattr(compute, "decorated_fn", None)
    file = inspect.getsourcefile(inspect.unwrap(function)) if function is not None else None
    return (Path(file),) if file and Path(file).is_file() else ()


def _definitions(
    declared: SignedAsset,
    asset: dg.AssetKey,
    partitions: "dg.PartitionsDefinition[Any] | None",
    sources: Sequence[Path],
) -> dg.Definitions:
    from ai_assets.signed_asset.sensors import deadlines_of, publication_of, requests_of

    candidate = _candidate(declared, asset, partitions, sources)
    published = _published(declared)
    jobs = [
        dg.define_asset_job(f"{declared.name}__request", dg.AssetSelection.assets(candidate.key)),
        dg.define_asset_job(f"{declared.name}__publish", dg.AssetSelection.assets(published.key)),
    ]
    return dg.Definitions(
        assets=[candidate, _sign_off(declared), published],
        jobs=jobs,
        sensors=[requests_of(declared, asset), publication_of(declared), deadlines_of(declared)],
    )


def declared_key(declared: SignedAsset, of: str) -> dg.AssetKey:
    return dg.AssetKey(path_of(declared.name, of))


def _candidate(
    declared: SignedAsset,
    asset: dg.AssetKey,
    partitions: "dg.PartitionsDefinition[Any] | None",
    sources: Sequence[Path],
) -> dg.AssetsDefinition:
    @dg.asset(
        key=declared_key(declared, CANDIDATE),
        ins={"rows": dg.AssetIn(key=asset)},
        partitions_def=partitions,
        kinds={"parquet"},
        description=f"A row is a row of {declared.asset} with the digest of all that would be published of it. Its own "
        "digest is what people sign.",
        group_name=declared.name,
        owners=list(declared.owners),
        tags={"tenant": declared.tenant},
    )
    def body(context: dg.AssetExecutionContext, rows: Any) -> dg.MaterializeResult[None]:
        from ai_assets.run.context import Work
        from ai_assets.signed_asset.candidate import freeze
        from ai_assets.signed_asset.declaration import record
        from ai_assets.storage.stores import Stores

        partition = context.partition_key if context.has_partition_key else ALL
        home = Home.from_environment()
        try:
            collection = declared.collection()
            with Stores.at(home) as stores:
                record(stores.state, declared, home)
                run = _run_of(context, asset)
                launch = launch_of(context, stores, run, declared.name, [partition])
                with (
                    lineage(context, stores, collection, {}) as listening,
                    heard(context, home, *listening) as sinks,
                    Work(collection, stores, context.run.run_id, launch=launch, sinks=sinks) as work,
                ):
                    outcome = freeze(work, partition, rows, declared.key, sources)
        except AiAssetsError as error:
            raise failure(error) from None
        return dg.MaterializeResult(
            data_version=dg.DataVersion(FrozenCandidate.of(outcome.manifest).digest), metadata=_metadata(outcome)
        )

    return body


def _run_of(context: dg.AssetExecutionContext, asset: dg.AssetKey) -> dg.DagsterRun:
    """The run that made the rows: who started that one is their author, not who asked for the sign-off."""
    partitions = [context.partition_key] if context.has_partition_key else None
    wanted = dg.AssetRecordsFilter(asset_key=asset, asset_partitions=partitions)
    found = context.instance.fetch_materializations(wanted, limit=1).records
    run = context.instance.get_run_by_id(found[0].run_id) if found else None
    return run or context.run


def _metadata(outcome: "Outcome") -> dict[str, Any]:
    return {
        "rows": outcome.manifest.rows,
        **({"sample": as_table(outcome.manifest.stats["preview"])} if outcome.manifest.stats["preview"] else {}),
        **link_to(outcome.request_id),
    }


def _sign_off(declared: SignedAsset) -> dg.AssetSpec:
    return dg.AssetSpec(
        declared_key(declared, SIGN_OFF),
        kinds={"person"},
        description="A mirror of people's decisions: the data version is the digest that was approved. The authority "
        "is the audit chain (`ai-assets audit verify`), never this event.",
        group_name=declared.name,
        owners=list(declared.owners),
        tags={"tenant": declared.tenant},
    )


def _published(declared: SignedAsset) -> dg.AssetsDefinition:
    @dg.asset(
        key=declared_key(declared, PUBLISHED),
        deps=[declared_key(declared, CANDIDATE), declared_key(declared, SIGN_OFF)],
        kinds={"parquet"},
        description=f"The rows of {declared.asset} as people signed them. Materializing publishes what is approved, "
        "gives out the live release, and fails while there is none.",
        group_name=f"{declared.name}__published",
        owners=list(declared.owners),
        tags={"tenant": declared.tenant},
    )
    def body(context: dg.AssetExecutionContext) -> dg.Output[Any]:
        from ai_assets.signed_asset.release import publish_or_live, rows_of
        from ai_assets.storage.stores import Stores

        try:
            with Stores.at(Home.from_environment()) as stores:
                say = lambda line: context.log.info(printable(line))  # noqa: E731
                release = publish_or_live(declared.collection(), stores, say)
                rows = rows_of(stores, release)
        except AiAssetsError as error:
            raise failure(error) from None
        signers = sorted({name for part in release.parts.values() for name in part.approved_by})
        metadata: dict[str, Any] = {
            "release": dg.MetadataValue.text(str(release.number)), "rows": release.documents,
            "approved_by": ", ".join(signers), "partitions": len(release.parts),
        }  # fmt: skip
        return dg.Output(rows, metadata=metadata, data_version=dg.DataVersion(release.digest))

    return body


def sign_off_event(declared: SignedAsset, partition: str, digest: str, by: str) -> dg.AssetMaterialization:
    """The mirror of one approval."""
    metadata = {"approved_by": by}
    return dg.AssetMaterialization(declared_key(declared, SIGN_OFF), metadata=metadata, tags=version_tags(digest))
