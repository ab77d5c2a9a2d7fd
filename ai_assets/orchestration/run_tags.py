"""Tags that tell a run how to work."""

from collections.abc import Mapping

from ai_assets.base.errors import UserError
from ai_assets.inference.errors import PriorityUnknown
from ai_assets.inference.records import PRIORITIES, PRIORITY_TAG, Priority

PATIENT_TAG = "ai_assets/asks"
PATIENT = "due"
"""Of a run for which no person named partitions: documents without a result are left alone until they are due."""

WORKERS_TAG = "ai_assets/workers"
"""Of a run: over how many processes its partitions are spread."""
MOST_WORKERS = 64


class WorkersWrong(UserError):
    def __init__(self, said: str) -> None:
        super().__init__(
            f"a run cannot be spread over '{said}' processes (tag {WORKERS_TAG}, or --workers); give a number from 1 "
            f"to {MOST_WORKERS}, or leave it out for as many as there are cores"
        )


def workers_of(tags: Mapping[str, str]) -> int | None:
    """How many processes a run uses, where its tag says it."""
    said = tags.get(WORKERS_TAG)
    if said is None:
        return None
    if not said.isascii() or not said.isdigit() or not 1 <= int(said) <= MOST_WORKERS:
        raise WorkersWrong(said)
    return int(said)


def priority_of(tags: Mapping[str, str]) -> Priority | None:
    """Of the calls of a run, where its tag says one."""
    said = tags.get(PRIORITY_TAG)
    if said is None:
        return None
    found = next((each for each in PRIORITIES if each == said), None)
    if found is None:
        raise PriorityUnknown(said, f"this run (tag {PRIORITY_TAG})")
    return found
