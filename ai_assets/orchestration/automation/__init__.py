"""What watches and asks for runs, as functions of collections: the source, the clock, people's decisions, money."""

from ai_assets.orchestration.automation.batches import batches
from ai_assets.orchestration.automation.budgets import budgets
from ai_assets.orchestration.automation.canaries import canaries
from ai_assets.orchestration.automation.deadlines import deadlines
from ai_assets.orchestration.automation.inference_cost import inference_cost
from ai_assets.orchestration.automation.publication import publication
from ai_assets.orchestration.automation.retention import retention
from ai_assets.orchestration.automation.source_changes import nightly, source_changes
from ai_assets.orchestration.automation.windows import windows

__all__ = [
    "batches", "budgets", "canaries", "deadlines", "inference_cost", "nightly", "publication", "retention",
    "source_changes", "windows",
]  # fmt: skip
