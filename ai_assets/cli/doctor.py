"""`ai-assets doctor`: everything that the installation stands on, looked at in a few seconds."""

import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from ai_assets.base.home import TENANT_VARIABLE, variable
from ai_assets.base.plural import plural
from ai_assets.cli.output import AsJson, console, drawn_bar, home, led, print_json
from ai_assets.doctor.examination import Examined, HealthCheck, examined
from ai_assets.doctor.findings import LEVELS, Finding, causes_once
from ai_assets.doctor.installation import Installation

TIMEOUT_S = 15.0
STYLES = {"ok": "green", "note": "cyan", "warning": "yellow", "error": "bold red"}


def doctor(
    timeout_s: Annotated[
        float,
        typer.Option(min=0.5, max=3600, help="For each look, in seconds; loading the code has four times as many."),
    ] = TIMEOUT_S,
    as_json: AsJson = False,
) -> None:
    """Look at home, versions, database, bucket, endpoints, clocks, disk, daemons, keys, budgets and cluster.

    Nothing is written, migrated or paid. Exit code 1: something is wrong, and its line says what to do.
    """
    from ai_assets.doctor.checks import CHECKS

    at = Installation(home=home(), tenant=variable(TENANT_VARIABLE), timeout_s=timeout_s)
    found = _all(CHECKS, at, drawn=not as_json and console.is_terminal)
    order = {check.name: number for number, check in enumerate(CHECKS)}
    found.sort(key=lambda each: order[each.check.name])
    names = [each.check.name for each in found for _ in each.findings]
    findings = list(zip(names, causes_once([one for each in found for one in each.findings]), strict=True))
    failed = any(finding.level == "error" for _, finding in findings)
    if as_json:
        print_json({"well": not failed, "findings": [{"check": name, **asdict(each)} for name, each in findings]})
    else:
        _show([finding for _, finding in findings])
    if any(each.late for each in found):  # its thread would keep this process
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(failed))
    if failed:
        raise typer.Exit(1)


def _all(checks: Sequence[HealthCheck], at: Installation, *, drawn: bool) -> list[Examined]:
    if not drawn:
        return list(examined(checks, at))
    done: list[Examined] = []
    with drawn_bar("Looking") as bar:
        bar(total=len(checks))
        for each in examined(checks, at):
            done.append(each)
            left = {check.title for check in checks} - {other.check.title for other in done}
            bar(completed=len(done), description=f"Waiting for {', '.join(sorted(left)[:3])}" if left else "Done")
    return done


def _show(findings: list[Finding]) -> None:
    for finding in findings:
        rest = f" {finding.looked_at}: {finding.found.rstrip('.')}."
        console.print(led(f"{finding.level:>7}", STYLES[finding.level], rest), soft_wrap=True)
        if finding.fix:
            console.print(f"         {finding.fix}", soft_wrap=True)
    counts = Counter(finding.level for finding in findings)
    console.print(
        ", ".join(f"{counts[level]} ok" if level == "ok" else plural(counts[level], level) for level in LEVELS)
    )
