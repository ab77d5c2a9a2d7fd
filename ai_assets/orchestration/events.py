"""Outcomes as Dagster events: one materialization per asset and partition, with its own versions and metadata."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData as JudgedMaterialization,
)

from ai_assets.base.home import Home
from ai_assets.collection.loading import Collection
from ai_assets.desk.settings import DeskInvalid, desk_address, load_desk
from ai_assets.evaluation.reliability import reliability_markdown
from ai_assets.orchestration.specs import key_of

if TYPE_CHECKING:
    from ai_assets.checks.base import CheckOutcome
    from ai_assets.run.context import Outcome
    from ai_assets.run.events import BatchAwaited, WindowAwaited
    from ai_assets.storage.lake import Manifest

DATA_VERSION = "dagster/data_version"
USER_VERSION = "dagster/data_version_is_user_provided"
CODE_VERSION = "dagster/code_version"
INPUT_VERSION = "dagster/input_data_version"
INPUT_POINTER = "dagster/input_event_pointer"


def materialization(
    collection: Collection, outcome: "Outcome", instance: dg.DagsterInstance
) -> dg.AssetMaterialization:
    """The event of one dataset. The tags give Dagster the versions it computes staleness from."""
    manifest = outcome.manifest
    newest = instance.event_log_storage.get_maximum_record_id()
    return dg.AssetMaterialization(
        key_of(collection, manifest.asset),
        partition=manifest.partition,
        description="unchanged: nothing was computed" if outcome.unchanged else None,
        metadata={**metadata(outcome), **link_to(outcome.request_id)},
        tags={**version_tags(data_version(manifest)), **_provenance(collection, manifest, newest)},
    )


def source_observation(collection: Collection, documents: "Outcome") -> dg.AssetObservation:
    """The source as these documents were made from it. Without it, a later look at the same source seems a change."""
    manifest = documents.manifest
    return dg.AssetObservation(
        key_of(collection, "source_files"),
        partition=manifest.partition,
        tags=version_tags(manifest.inputs["source_files"]),
    )


def corrections_observation(
    collection: Collection, partition: str, version: str, instance: dg.DagsterInstance
) -> dg.AssetObservation | None:
    """The corrections that a run goes by, where Dagster last saw others."""
    key = key_of(collection, "corrections")
    found = instance.fetch_observations(dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition]), limit=1)
    last = found.records[0].asset_observation if found.records else None
    if last is not None and last.tags.get(DATA_VERSION) == version:
        return None
    return dg.AssetObservation(key, partition=partition, tags=version_tags(version))


def batch_observation(collection: Collection, waiting: "BatchAwaited") -> dg.AssetObservation:
    """In place of a dataset whose calls travel in a batch."""
    return dg.AssetObservation(
        key_of(collection, waiting.asset),
        partition=waiting.partition,
        description=f"{waiting.said}. Its sensor collects the answers and asks for the run that goes on.",
        metadata={"batch/answered": waiting.answered, "batch/calls": waiting.calls},
    )


def window_observation(collection: Collection, waiting: "WindowAwaited") -> dg.AssetObservation:
    """In place of a dataset whose window is closed."""
    return dg.AssetObservation(
        key_of(collection, waiting.asset),
        partition=waiting.partition,
        description=f"{waiting.said}. A sensor asks for the run that goes on when it opens.",
        metadata={"window/until": waiting.until, "window/documents": waiting.documents},
    )


def data_version(manifest: "Manifest") -> str:
    """A candidate is known by the digest that people sign, any other dataset by its content."""
    return str(manifest.stats.get("digest") or manifest.version)


def version_tags(version: str) -> dict[str, str]:
    return {DATA_VERSION: version, USER_VERSION: "true"}


def _provenance(collection: Collection, manifest: "Manifest", newest: int | None) -> dict[str, str]:
    """For partitions Dagster does not compare versions: it takes a change of an input after the event pointed at."""
    tags = {CODE_VERSION: manifest.code_version}
    for asset, version in manifest.inputs.items():
        if asset not in collection.inputs_of(manifest.asset):
            continue  # such as the examples of a prompt, which are no asset
        name = key_of(collection, asset).to_user_string()
        tags[f"{INPUT_VERSION}/{name}"] = version
        tags[f"{INPUT_POINTER}/{name}"] = str(newest) if newest else "NULL"
    return tags


def link_to(request_id: str | None) -> dict[str, Any]:
    """From a candidate to the page where people decide on it."""
    if request_id is None:
        return {}
    try:
        address = desk_address(load_desk(Home.from_environment().desk))
    except DeskInvalid:
        return {}  # the desk itself says what is wrong; a run does not fail for a link
    return {"sign_off": dg.MetadataValue.url(f"{address}/requests/{request_id}")} if address else {}


_NUMBERS = (
    "chunks", "texts_embedded", "texts_reused", "mean_confidence", "without_vectors", "ocr_pages", "ocr_seconds",
    "held",
)  # fmt: skip


def metadata(outcome: "Outcome") -> dict[str, Any]:
    """Numbers that move become plots in the UI, and five rows a table. Nothing is said twice: what the data version,
    the key or another number says is not here, and money is numbers where models were asked, else a sentence."""
    stats = outcome.manifest.stats
    found: dict[str, Any] = {"documents": outcome.documents_in}
    if "unanswered" in stats or outcome.manifest.asset == "release_candidate":
        # Of `documents` it is among the statuses, and no other asset has any.
        found["quarantined"] = outcome.quarantined
    if "spend" in stats and outcome.documents_in:
        found["reuse_share"] = round(outcome.reused / outcome.documents_in, 4)
    elif outcome.manifest.asset not in _MADE_WHOLE:
        found["reused"] = outcome.reused
    found["seconds"] = round(outcome.seconds, 3)
    for name in (*_NUMBERS, "model"):
        if stats.get(name) is not None:
            found[name] = stats[name]
    for name in ("statuses", "labels"):
        found.update({f"{name}/{key}": count for key, count in stats.get(name, {}).items()})
    found.update(_money(outcome))
    if outcome.manifest.asset == "evaluation_scores":
        found.update(_score_metadata(stats))
    for stage, found_threshold in stats.get("hold_thresholds", {}).items():
        found.update(_threshold_metadata(stage, found_threshold))
    if stats.get("why_without"):
        found["why_without_vectors"] = as_table(stats["why_without"])
    if stats["preview"]:
        found["sample"] = as_table(stats["preview"])
    return found


def _threshold_metadata(stage: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """A certified threshold: its number as a plot, what it promises, and how error grows with what is accepted."""
    found: dict[str, Any] = {f"{stage}_guarantee": told["said"]}
    if told["threshold"] is not None:
        found |= {f"{stage}_suspended": told["suspended"]} if "suspended" in told else {}
        found |= {f"{stage}_threshold": told["threshold"], f"{stage}_accepted_share": told["coverage"]}
    return {**found, **({f"{stage}_coverage": as_table(told["curve"])} if told["curve"] else {})}


_MADE_WHOLE = ("evaluation_scores", "release_candidate")
"""Assets that take no rows over: either nothing changed, which their event says, or all of it is made again."""
_SELDOM = ("cached_tokens", "reasoning_tokens", "maybe_usd", "reused_usd")
"""Numbers of calls that are left out where they are nothing: most models never have any."""


def _money(outcome: "Outcome") -> dict[str, Any]:
    """Of an asset that asks models what to plot, in dollars; of any other, or where nothing was asked, a sentence."""
    from ai_assets.costs.funding import cost_summary
    from ai_assets.inference.prices import usd_of
    from ai_assets.inference.spend import Spend, numbers

    stats = outcome.manifest.stats
    found: dict[str, Any] = {}
    if "spend" in stats and not outcome.unchanged:
        spent = numbers(Spend(**stats["spend"]))  # what the calls of this run came to
        if spent.get("attempts") == spent.get("calls"):
            del spent["attempts"]  # nothing was retried
        if spent.get("p95_s") == spent.get("p99_s"):
            spent.pop("p99_s", None)  # of few answers both are the slowest
        found.update({name: value for name, value in spent.items() if value or name not in _SELDOM})
    else:
        found["cost_summary"] = cost_summary(outcome)
    if "spend" in stats:
        found["cost_usd"] = outcome.cost_usd
    if outcome.budget is not None:
        found["budget_left_usd"] = usd_of(outcome.budget.left_nusd)
    if "spend" in stats and outcome.documents_out:
        found["usd_per_document"] = round(stats["paid_usd"] / outcome.documents_out, 9)
    return found


def _score_metadata(stats: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for row in stats["scores"]:
        name = f"{row['scope']}/{row['metric']}"
        if row["value"] is not None:  # of search by a further embedding, with its name
            found[f"{name}/{row['stage']}" if name in found else name] = row["value"]
    found |= _judged_metadata(stats)
    details = stats["details"]
    if details.get("judges"):  # by judge, how many outputs people rated, and how many they must rate still
        found["judges"] = dg.MetadataValue.json(details["judges"])
    if details.get("confusion"):
        found["confusion"] = dg.MetadataValue.md(details["confusion"])
    if stats.get("search_fits"):  # by embedding, the weight of vectors in a search and what its fit is worth
        found["search_fits"] = dg.MetadataValue.json(stats["search_fits"])
    if "golden" in stats:  # which golden items judged
        found["golden_set"], found["golden_digest"] = str(stats["golden"]["set"]), stats["golden"]["digest"]
    if "reliability" in stats:
        found["calibration_error"] = stats["reliability"]["ece"]
        found["reliability"] = dg.MetadataValue.md(reliability_markdown(stats["reliability"]))
    for name in (
        "mislabelled",
        "leaked",
        "disputed",
        "unknown",
        *(name for name in details if name.startswith("not_found_in_5")),
    ):
        if details.get(name):
            found[name] = dg.MetadataValue.json(details[name])
    return found


def _judged_metadata(stats: Mapping[str, Any]) -> dict[str, Any]:
    """Scores with their intervals and slices, as tables: what the evaluation page of the desk shows."""
    from ai_assets.signoff.release_cards import with_intervals

    scores = with_intervals(stats["scores"], stats.get("errors", ()))
    rows: list[Mapping[str, Any]] = [
        {
            "metric": score.metric, "scope": score.scope, "stage": score.stage, "value": score.value,
            "low": score.interval.low, "high": score.interval.high, "level": score.interval.level, "n": score.n,
        }
        for score in scores
        if score.interval is not None
    ]  # fmt: skip
    found = {"intervals": as_table(rows)} if rows else {}
    slices: list[Mapping[str, Any]] = [{**each, "value": each["right"] / each["n"]} for each in stats.get("slices", ())]
    return {**found, **({"slices": as_table(slices)} if slices else {})}


def as_table(rows: list[Mapping[str, Any]]) -> dg.TableMetadataValue:
    records = [dg.TableRecord({k: "" if v is None else v for k, v in row.items()}) for row in rows]
    names: dict[str, str] = {}
    for row in rows:
        for name, value in row.items():
            if value is not None:
                kind = "float" if isinstance(value, float) else "int" if isinstance(value, int) else "string"
                names.setdefault(name, kind)
            else:
                names.setdefault(name, "string")
    columns = [dg.TableColumn(name, kind) for name, kind in names.items()]
    return dg.MetadataValue.table(records, schema=dg.TableSchema(columns))


_DECLARED = frozenset({"minimum", "limit_usd"})
"""Of checks: numbers that stay as they were declared. As text they are not plotted."""
_SAID_ELSEWHERE = frozenset({"gates", "expectations"})
"""Of checks: the sentences of gates are the description of the event, and `results` has as many entries as there are
expectations."""


def check_evaluation(
    collection: Collection, check: "CheckOutcome", instance: dg.DagsterInstance
) -> dg.AssetCheckEvaluation:
    """The verdict, tied to the materialization it is about: untied, Dagster takes it for one on older rows."""
    details: dict[str, Any] = {}
    for name, value in check.details.items():
        if name in _SAID_ELSEWHERE:
            continue
        if name == "failing_rows":
            if value:
                details[name] = as_table([{k: _cell(v) for k, v in row.items()} for row in value])
        elif name in _DECLARED and value is not None:
            details[name] = dg.MetadataValue.text(f"{value:g}")
        else:
            details[name] = dg.MetadataValue.json(value) if isinstance(value, list | dict) else value
    return dg.AssetCheckEvaluation(
        asset_key=key_of(collection, check.asset),
        check_name=check.name,
        passed=check.passed,
        partition=check.partition,
        severity=dg.AssetCheckSeverity.ERROR if check.blocking or check.passed else dg.AssetCheckSeverity.WARN,
        description="; ".join(check.failures) or check.details.get("gates") or None,
        metadata=details,
        target_materialization_data=_judged(instance, key_of(collection, check.asset), check.partition),
    )


def _judged(instance: dg.DagsterInstance, key: dg.AssetKey, partition: str) -> JudgedMaterialization | None:
    wanted = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition])
    found = instance.fetch_materializations(wanted, limit=1).records
    if not found:
        return None
    return JudgedMaterialization(storage_id=found[0].storage_id, run_id=found[0].run_id, timestamp=found[0].timestamp)


def _cell(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)
