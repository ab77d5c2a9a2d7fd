"""Canaries: whether each is asked in time, and whether a model was changed that nobody has accepted yet."""

import datetime
from collections.abc import Iterator

from ai_assets.base.errors import UserError
from ai_assets.doctor.findings import Finding, fine, of_error, warned
from ai_assets.doctor.installation import Installation
from ai_assets.doctor.state import NoStoreYet, looking, tables_of
from ai_assets.inference.canary.asking import canaries, declared
from ai_assets.inference.canary.status import CanaryStatus, statuses
from ai_assets.storage.state import now

OVERDUE = 2.0
"""So many times its interval without being asked."""


def look(at: Installation) -> Iterator[Finding]:
    settings, tenants = at.inference, at.tenants
    names = [
        name
        for name in canaries(settings)
        if at.tenant is None or tenants.why_not(at.tenant, name, settings.endpoints[name].key) is None
    ]
    if not names:
        yield fine("canaries", "none is declared")
        return
    for name in names:
        try:
            declared(name, settings, at.home.inference)
        except UserError as error:  # its file of questions is wrong
            yield of_error(f"canary {name}", error)
    try:
        with looking(at) as connection:
            found = statuses(connection, settings, names) if "canary_runs" in tables_of(connection) else []
    except NoStoreYet:
        found = []
    for each in found:
        canary = settings.endpoints[each.endpoint].canary
        assert canary is not None
        yield _told(each, canary.every_s)
    if not found:
        yield fine("canaries", f"not asked yet: {', '.join(names)}")


def _told(found: CanaryStatus, every_s: float) -> Finding:
    what = f"canary {found.endpoint}"
    if found.state == "changed":
        return warned(
            what, found=found.said,
            fix=f"Look at what was made since (ai-assets canary changes {found.endpoint}), and take the new model "
            f"as it is (ai-assets canary accept {found.endpoint} --reason WHY) or declare another one.",
        )  # fmt: skip
    if found.last_at is not None:
        age_s = _seconds(now()) - _seconds(found.last_at)
        if age_s > OVERDUE * every_s:
            return warned(
                what, found=f"overdue: asked last {found.last_at[:16]} UTC, and due every {every_s / 3600:g} hours",
                fix="Start `ai-assets up`, whose sensor `canaries` asks, or have `ai-assets canary run` called.",
            )  # fmt: skip
    if found.state == "no answer":
        return warned(what, found=found.said, fix=f"ai-assets inference test {found.endpoint} says more.")
    return fine(what, found.said)


def _seconds(moment: str) -> float:
    return datetime.datetime.fromisoformat(moment).timestamp()
