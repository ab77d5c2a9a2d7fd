"""What watches, and asks for runs: the source, the clock, and people's decisions."""

from sensors.budgets import budgets
from sensors.deadlines import deadlines
from sensors.inference_cost import inference_cost
from sensors.publication import publication
from sensors.retention import retention
from sensors.source_changes import nightly, source_changes

__all__ = ["budgets", "deadlines", "inference_cost", "nightly", "publication", "retention", "source_changes"]
