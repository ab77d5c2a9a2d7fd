"""What must hold of a dataset: Great Expectations suites, gates, answers, money, and checks of a user's own.

A check of your own imports `check`, `CheckContext`, `CheckResult` and `Dataset` from here; one that speaks for several
assets derives from `Check`.
"""

from ai_assets.checks.base import Check, CheckContext, CheckResult, CheckSpec, Dataset, check

__all__ = ["Check", "CheckContext", "CheckResult", "CheckSpec", "Dataset", "check"]
