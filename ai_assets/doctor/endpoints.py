"""The endpoints of inference.yaml: reached by a request that is not paid, with key and price."""

import datetime
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed

from ai_assets.base.errors import UserError
from ai_assets.base.home import REHEARSAL_VARIABLE, variable
from ai_assets.doctor.expiry import end_of_jwt, ending
from ai_assets.doctor.findings import Finding, Level, fine, noted, of_error
from ai_assets.doctor.installation import Installation
from ai_assets.inference.prices import call_price
from ai_assets.inference.settings import REHEARSAL
from ai_assets.inference.trial import Trial, tried

AT_ONCE = 16


def look(at: Installation) -> Iterator[Finding]:
    settings, tenants = at.inference, at.tenants
    level: Level = "error" if at.asks_models else "warning"
    names = [
        name
        for name, endpoint in settings.endpoints.items()
        if at.tenant is None or tenants.why_not(at.tenant, name, endpoint.key) is None
    ]
    if not names:
        yield fine("endpoints", "none is declared")
        return
    with ThreadPoolExecutor(min(len(names), AT_ONCE)) as pool:
        asked = {pool.submit(_one, name, at): name for name in names}
        found = {asked[each]: each.result() for each in as_completed(asked)}
    for name in names:
        yield from _told(name, found[name], level)
    for variable_name in dict.fromkeys(settings.endpoints[name].key for name in names):
        if variable_name is not None and (ends := end_of_jwt((variable(variable_name) or "").strip())) is not None:
            fix = f"Have a new one issued, and set {variable_name} to it where commands and runs begin."
            yield ending(f"key {variable_name} (a JWT)", ends, fix)


def _one(name: str, at: Installation) -> Trial | Finding | UserError:
    endpoint = at.inference.endpoints[name]
    try:
        if endpoint.base_url == REHEARSAL and variable(REHEARSAL_VARIABLE) is None:
            call_price(name, endpoint, datetime.datetime.now(datetime.UTC).date())
            return fine(f"endpoint {name}", "the rehearsal provider, which a run starts for itself")
        return tried(name, at.inference, None, timeout_s=at.timeout_s / 3)
    except UserError as error:
        return error


def _told(name: str, found: Trial | Finding | UserError, level: Level) -> Iterator[Finding]:
    what = f"endpoint {name}"
    if isinstance(found, Finding):
        yield found
        return
    if isinstance(found, UserError):
        yield of_error(what, found, level)
        return
    if found.problem is not None:
        lines = "; ".join(f"{key}: {value}" for key, value in found.changes.items())
        said, _, todo = found.problem.partition("; ")
        fix = f"inference.yaml: {lines}" if lines else todo or "Look at the endpoint, and at inference.yaml."
        yield Finding(level=level, looked_at=what, found=said if todo else found.problem, fix=fix)
        return
    for note in found.notes:
        yield noted(what, found=note, fix=f"ai-assets inference test {name} makes a call.")
    if found.price is None:
        fix = f"Write `prices` or `free: true` under endpoints.{name}."
        yield Finding(level=level, looked_at=what, found="it has no price", fix=fix)
    else:
        yield fine(what, f"reached in {found.reached_s or 0:.2f} s without a paid call; {found.price}")
