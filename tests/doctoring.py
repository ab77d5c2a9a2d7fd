"""One look of `ai-assets doctor`, in this process."""

from ai_assets.base.home import TENANT_VARIABLE, Home, variable
from ai_assets.doctor.checks import CHECKS
from ai_assets.doctor.examination import examined
from ai_assets.doctor.findings import Finding
from ai_assets.doctor.installation import Installation


def seen(check: str, timeout_s: float = 60.0) -> list[Finding]:
    at = Installation(home=Home.from_environment(), tenant=variable(TENANT_VARIABLE), timeout_s=timeout_s)
    (found,) = examined([each for each in CHECKS if each.name == check], at)
    return list(found.findings)


def levels(findings: list[Finding]) -> set[str]:
    return {each.level for each in findings}


def one(findings: list[Finding], level: str) -> Finding:
    (found,) = [each for each in findings if each.level == level]
    return found
