"""All checks of a collection, and running them: the built-in ones and those of the user's own."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from ai_assets.base.errors import UserError
from ai_assets.base.yaml_settings import nearest
from ai_assets.checks.answered import AnsweredCheck
from ai_assets.checks.base import Check, CheckContext, CheckOutcome, CheckSpec, Dataset
from ai_assets.checks.budget import BudgetCheck
from ai_assets.checks.canary import CanaryCheck
from ai_assets.checks.ceilings import CeilingsCheck
from ai_assets.checks.contract import ContractCheck
from ai_assets.checks.drift import DriftCheck
from ai_assets.checks.gates import GatesCheck
from ai_assets.checks.suites import SuiteCheck
from ai_assets.collection.settings import (
    ANSWERED_CHECK,
    BUDGET_CHECK,
    CANARY_CHECK,
    CEILINGS_CHECK,
    CONTRACT_CHECK,
    DRIFT_CHECK,
    GATES_CHECK,
    QUALITY_CHECK,
)
from ai_assets.storage.digest import Json, canonical_json, digest

if TYPE_CHECKING:
    from ai_assets.collection.loading import Collection
    from ai_assets.run.context import Outcome, Work
    from ai_assets.storage.lake import Manifest

BUILTIN: tuple[Check, ...] = (
    BudgetCheck(), AnsweredCheck(), CeilingsCheck(), SuiteCheck(), GatesCheck(), DriftCheck(), CanaryCheck(),
    ContractCheck(),
)  # fmt: skip
"""In the order in which they are run on one asset."""
TAKEN = (
    ANSWERED_CHECK, BUDGET_CHECK, CANARY_CHECK, CEILINGS_CHECK, CONTRACT_CHECK, DRIFT_CHECK, GATES_CHECK, QUALITY_CHECK,
)  # fmt: skip


def specs_of(collection: "Collection") -> list[tuple[Check, CheckSpec]]:
    return [(check, spec) for check in (*BUILTIN, *collection.own.checks) for spec in check.spec(collection)]


def problem_of(collection: "Collection", check: Check) -> str | None:
    """Why one of the user's own does not fit the collection; None when it does."""
    others = [(spec.asset, spec.name) for each, spec in specs_of(collection) if each is not check]
    for spec in check.spec(collection):
        if spec.asset not in collection.asset_names:
            return f"'{spec.asset}' is no asset of the collection{nearest(spec.asset, list(collection.asset_names))}"
        if re.fullmatch(r"\w+", spec.name, re.ASCII) is None:
            return f"'{spec.name}' cannot name a check: use letters, digits and underscores"
        if spec.name in TAKEN or (spec.asset, spec.name) in others:
            return f"{spec.asset} has a check '{spec.name}' already; choose another 'name'"
        if spec.blocking and spec.asset == "release_candidate":
            return "a candidate is asked about as soon as it is made; let the check block an asset before it"
    return None


def checked(work: "Work", outcome: "Outcome") -> Iterator[CheckOutcome]:
    """Every check of an asset of a partition, one by one. Then the error of the first that blocks is raised."""
    context = CheckContext(collection=work.collection, work=work, outcome=outcome)
    refusal: UserError | None = None
    for check, spec in specs_of(work.collection):
        if spec.asset == outcome.manifest.asset:
            found = run(context, check, spec, outcome.manifest)
            yield found
            if found.blocking and check.stops_at_once:
                refusal = refusal or check.refusal(found)
    if refusal is not None:
        raise refusal


def refuse_unsound(work: "Work", partition: str) -> None:
    """No candidate of what a blocking check refuses, also when somebody asks for the candidate alone."""
    context = CheckContext(collection=work.collection, work=work)
    for check, spec in specs_of(work.collection):
        if spec.blocking and check.stops_at_once and spec.asset != "release_candidate":
            found = run(context, check, spec, work.input("release_candidate", partition, spec.asset))
            if found.blocking:
                raise check.refusal(found)


def refuse_unsound_candidate(work: "Work", manifest: "Manifest") -> None:
    """Nobody is asked about a candidate that its own suite refuses."""
    context = CheckContext(collection=work.collection, work=work)
    for check, spec in specs_of(work.collection):
        if spec.asset == manifest.asset and spec.blocking and check.stops_at_once:
            found = run(context, check, spec, manifest)
            if found.blocking:
                raise check.refusal(found)


def run(context: CheckContext, check: Check, spec: CheckSpec, manifest: "Manifest") -> CheckOutcome:
    def look() -> CheckOutcome:
        result = check.run(context, Dataset(manifest=manifest, work=context.work))
        blocking = spec.blocking if result.blocking is None else result.blocking
        return CheckOutcome(
            asset=manifest.asset,
            partition=manifest.partition,
            name=spec.name,
            passed=result.passed,
            blocking=blocking and not result.passed,
            failures=list(result.failures),
            details=dict(result.details),
        )

    identity = check.identity(context.collection, manifest.asset)
    return look() if identity is None else _remembered(context.work, manifest, spec.name, identity, look)


def _remembered(
    work: "Work", manifest: "Manifest", name: str, identity: Json, look: Callable[[], CheckOutcome]
) -> CheckOutcome:
    """A verdict on the same rows is not asked for twice."""
    import sqlalchemy as sa

    from ai_assets.storage.state import upsert

    fingerprint = digest([manifest.version, identity])
    key = {
        "collection": manifest.collection, "asset": manifest.asset, "partition": manifest.partition,
        "check_name": name,
    }  # fmt: skip
    with work.stores.state.read() as connection:
        known = connection.execute(
            sa.text(
                "SELECT details FROM check_results WHERE collection = :collection AND asset = :asset "
                "AND partition = :partition AND check_name = :check_name AND fingerprint = :fingerprint"
            ),
            {**key, "fingerprint": fingerprint},
        ).scalar_one_or_none()
    if known is not None:
        return CheckOutcome(**json.loads(known))
    outcome = look()
    with work.fenced() as connection:
        values = {
            "fingerprint": fingerprint, "passed": int(outcome.passed), "blocking": int(outcome.blocking),
            "details": canonical_json(asdict(outcome)),
        }  # fmt: skip
        upsert(connection, "check_results", key, values)
    return outcome


def described(checks: Sequence[Check], collection: "Collection") -> list[Json]:
    """What of the user's own checks counts when it is asked whether a partition is up to date."""
    return [[spec.asset, check.identity(collection, spec.asset)] for check in checks for spec in check.spec(collection)]
