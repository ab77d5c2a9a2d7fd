"""Tags that tell a run how to work."""

from collections.abc import Mapping

from ai_assets.inference.errors import PriorityUnknown
from ai_assets.inference.records import PRIORITIES, PRIORITY_TAG, Priority

PATIENT_TAG = "ai_assets/asks"
PATIENT = "due"
"""Of a run for which no person named partitions: documents without a result are left alone until they are due."""


def priority_of(tags: Mapping[str, str]) -> Priority | None:
    """Of the calls of a run, where its tag says one."""
    said = tags.get(PRIORITY_TAG)
    if said is None:
        return None
    found = next((each for each in PRIORITIES if each == said), None)
    if found is None:
        raise PriorityUnknown(said, f"this run (tag {PRIORITY_TAG})")
    return found
