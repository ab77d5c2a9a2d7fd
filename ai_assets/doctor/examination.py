"""All checks side by side, each for as long as it may take: what hangs is said, and holds up nothing."""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from ai_assets.base.errors import AiAssetsError, UserError, said_of
from ai_assets.base.home import DATA_URL_VARIABLE, STATE_URL_VARIABLE, variable
from ai_assets.base.masking import masked, without
from ai_assets.doctor.findings import Finding, fine, of_error, wrong
from ai_assets.doctor.installation import CannotLook, Installation

SHORTEST = 4
"""Of a password that is masked; a shorter one would blot out words, and no driver repeats one."""


@dataclass(frozen=True, kw_only=True)
class HealthCheck:
    """One thing that is looked at."""

    name: str
    """One word, for programs."""
    title: str
    look: Callable[[Installation], Iterable[Finding]]
    patience: int = 1
    """Of the time that each check has, so many times as much."""


@dataclass(frozen=True, kw_only=True)
class Examined:
    check: HealthCheck
    findings: tuple[Finding, ...]
    late: bool = False
    """Its thread still waits for something."""


def examined(checks: Sequence[HealthCheck], at: Installation) -> Iterator[Examined]:
    """As they come."""
    answers: queue.SimpleQueue[Examined] = queue.SimpleQueue()
    began = time.monotonic()
    for check in checks:
        threading.Thread(target=lambda check=check: answers.put(_one(check, at)), name=check.name, daemon=True).start()
    open_ = {check.name: check for check in checks}
    while open_:
        next_s = began + min(check.patience for check in open_.values()) * at.timeout_s - time.monotonic()
        try:
            found = answers.get(timeout=max(next_s, 0.001))
        except queue.Empty:
            late = [each for each in open_.values() if time.monotonic() >= began + each.patience * at.timeout_s]
            for check in late:
                del open_[check.name]
                yield Examined(check=check, findings=(_late(check, at),), late=True)
            continue
        if open_.pop(found.check.name, None) is not None:
            yield found


def _late(check: HealthCheck, at: Installation) -> Finding:
    return wrong(
        check.title,
        found=f"it gave no answer within {check.patience * at.timeout_s:g} s",
        fix="Look whether something between does not answer (network, file server, a lock); "
        "--timeout-s gives it longer.",
    )


def _one(check: HealthCheck, at: Installation) -> Examined:
    try:
        found = [_shown(each) for each in check.look(at)]
    except CannotLook as error:
        found = [_shown(of_error(check.title, error, "note"))]
    except UserError as error:
        found = [_shown(of_error(check.title, error))]
    except (AiAssetsError, OSError, ValueError, sa.exc.SQLAlchemyError) as error:
        found = [_shown(_odd(check, error))]
    except Exception as error:  # noqa: BLE001 - the other checks go on, whatever a library raises here
        found = [_shown(_odd(check, error))]
    return Examined(check=check, findings=tuple(found or [fine(check.title, "nothing to look at")]))


def _odd(check: HealthCheck, error: Exception) -> Finding:
    return wrong(
        check.title,
        found=said_of(error).splitlines()[0],
        fix="What failed is named there; where it is not clear, report it with the output of ai-assets --version.",
    )


def _shown(finding: Finding) -> Finding:
    """Without what is secret, whoever wrote it into which message."""
    return replace(finding, looked_at=_safe(finding.looked_at), found=_safe(finding.found), fix=_safe(finding.fix))


def _safe(text: str) -> str:
    return masked(without(text, _passwords()))


def _passwords() -> list[str]:
    found = []
    for name in (STATE_URL_VARIABLE, DATA_URL_VARIABLE):
        try:
            address = sa.make_url(variable(name) or "none://")
        except (sa.exc.ArgumentError, ValueError):
            continue
        said = [address.password, address.query.get("password"), address.query.get("sslpassword")]
        found += [str(each) for each in said if each and len(each) >= SHORTEST]
    return found
