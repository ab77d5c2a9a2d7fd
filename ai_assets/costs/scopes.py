"""Whom budgets count and tell, and who has shares, held against what the collections and desk.yaml declare.

A name that only resembles a declared one is refused where the code location loads: the budget would bound nothing, and
nobody would notice before the money is gone. An unrecognised name only produces a warning, because calls of plain
Dagster code (`LLMResource`) have tenants, collections and assets of their own, which are declared nowhere.
"""

import difflib
from collections.abc import Collection as Several
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ai_assets.base.yaml_settings import line_of, nearest, read_yaml
from ai_assets.collection.loading import Collection
from ai_assets.inference.errors import EndpointNotForTenant, InferenceInvalid
from ai_assets.inference.routes import names_of
from ai_assets.inference.settings import OF_TENANT, Budget, Dimension, InferenceSettings

ALIKE = 0.85
"""'clams' and 'claims' are, 0.91; 'team-a' and 'team-b' are two names, 0.83."""


@dataclass(frozen=True, kw_only=True)
class UnknownScope:
    """A name in a budget that nothing declares."""

    at: tuple[str | int, ...]
    """The keys of the file that lead there."""
    problem: str
    misspelt: bool = False
    """It resembles a declared name."""


def doubts(settings: InferenceSettings, collections: Sequence[Collection]) -> Iterator[UnknownScope]:
    """Scopes of budgets that fit no collection."""
    with_tenants = {f"{OF_TENANT}{name}" for name in settings.tenants.declared}
    for number, budget in enumerate(settings.budgets):
        if budget.name in with_tenants:  # operations.yaml has it, and a tenant may have no collection yet
            continue
        if not budget.of or any(fits(collection, budget.of) for collection in collections):
            continue
        found = [_doubt(number, budget, dimension, collections) for dimension in budget.of]
        yield next((each for each in found if each.misspelt), found[0])


def _doubt(number: int, budget: Budget, dimension: Dimension, collections: Sequence[Collection]) -> UnknownScope:
    """What is wrong, taking it that the rest of the scope is right."""
    found, rest = budget.of[dimension], {name: of for name, of in budget.of.items() if name != dimension}
    fitting = [each for each in collections if fits(each, rest)]
    known = sorted({name for each in fitting for name in _names(each)[dimension]})
    alike = difflib.get_close_matches(found, known, n=1, cutoff=ALIKE)
    together = "".join(f" and {name} '{of}'" for name, of in rest.items())
    said = f"no collection here is of {dimension} '{found}'{together}"
    if alike:
        meant = f"As it is, budget '{budget.name}' bounds nothing; for plain Dagster code, take a name less alike."
        return UnknownScope(
            at=("budgets", number, "of", dimension),
            problem=f"{said}; did you mean '{alike[0]}'? {meant}",
            misspelt=True,
        )
    here = f"; known here: {', '.join(known)}" if known else ""
    return UnknownScope(
        at=("budgets", number, "of", dimension),
        problem=f"{said}{here}. Budget '{budget.name}' counts only calls that say so in plain Dagster code.",
    )


def strangers(
    settings: InferenceSettings, collections: Sequence[Collection], elsewhere: Several[str] = ()
) -> Iterator[UnknownScope]:
    """Names with a share of an endpoint that no collection has; `elsewhere`: collections of other code locations."""
    known = {*elsewhere, *(name for each in collections for name in (each.name, each.settings.tenant))}
    for endpoint, declared in settings.endpoints.items():
        for party in declared.shares:
            if party not in known:
                hint = nearest(party, sorted(known), "there are none" if not known else None)
                yield UnknownScope(
                    at=("endpoints", endpoint, "shares", party),
                    problem=f"no collection here is called '{party}' or has that tenant{hint}. The share counts only "
                    "for calls that say so in plain Dagster code.",
                )


def unheard(settings: InferenceSettings, channels: Several[str]) -> Iterator[UnknownScope]:
    """Channels of budgets that desk.yaml does not declare."""
    for number, budget in enumerate(settings.budgets):
        for place, channel in enumerate(budget.notify):
            if channel not in channels:
                hint = nearest(channel, sorted(channels), "it declares none")
                yield UnknownScope(
                    at=("budgets", number, "notify", place),
                    problem=f"desk.yaml declares no channel '{channel}'{hint}. Nobody is told there.",
                )


def located(path: Path, found: UnknownScope) -> str:
    """The doubt with its place in the file."""
    return str(_invalid(path, found))


def refuse_misspelt(path: Path, settings: InferenceSettings, collections: Sequence[Collection]) -> None:
    if wrong := [found for found in doubts(settings, collections) if found.misspelt]:
        raise InferenceInvalid.of([mistake for found in wrong for mistake in _invalid(path, found).mistakes])


def refuse_of_other_tenants(settings: InferenceSettings, collections: Sequence[Collection]) -> None:
    """Raises where a collection asks an endpoint that is not its tenant's to ask."""
    if not settings.tenants:
        return
    from ai_assets.costs.funding import asking

    for collection in collections:
        tenant = collection.settings.tenant
        for asks in asking(collection):
            for name in names_of(settings, asks.route):
                problem = settings.tenants.why_not(tenant, name, settings.endpoints[name].key)
                if problem is not None:
                    raise EndpointNotForTenant(tenant, name, f"{problem}, and {collection.name}/{asks.asset} asks it")


def _invalid(path: Path, found: UnknownScope) -> InferenceInvalid:
    node, _ = read_yaml(path, InferenceInvalid)
    where = ".".join(str(part) for part in found.at)
    return InferenceInvalid(path, line_of(node, *found.at), f"{where}: {found.problem}")


def fits(collection: Collection, of: Mapping[Dimension, str]) -> bool:
    """Whether a budget of this scope counts some of its calls."""
    names = _names(collection)
    return all(found in names[dimension] for dimension, found in of.items())


def _names(collection: Collection) -> dict[Dimension, tuple[str, ...]]:
    return {
        "tenant": (collection.settings.tenant,),
        "collection": (collection.name,),
        "asset": collection.asset_names,
    }
