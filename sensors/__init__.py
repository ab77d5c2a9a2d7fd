"""What watches, and asks for runs: the source, the clock, and people's decisions."""

from sensors.deadlines import deadlines
from sensors.publication import publication
from sensors.source_changes import nightly, source_changes

__all__ = ["deadlines", "nightly", "publication", "source_changes"]
