"""How long something was wanted of an endpoint and no answer came, and what people hear of it. Pure: times are given.

Only time in which somebody waits for the endpoint counts, so an idle hour between two failures is no outage.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ai_assets.base.plural import plural
from ai_assets.inference.admission import BREAKING, WaitReason
from ai_assets.inference.records import ErrorClass

if TYPE_CHECKING:
    from ai_assets.inference.settings import Endpoint

FIRST_SAID_S = 10.0
"""After so long without an answer an endpoint that fails is named."""
SLOW_SAID_S = 30.0
"""The same of one that has not failed: it may only be slow."""
LONGEST_GAP_S = 60.0
"""Between two lines about the same silence, which come at growing intervals."""
OBSTACLES: Mapping[WaitReason, str] = {
    "broken": "it has been failing and is left alone for a moment",
    "rate": "its limits (requests_per_minute, tokens_per_minute) have no room",
    "full": "its places (limits.concurrency) are taken, by other processes too",
    "behind": "its free places are for others first",
}
"""Why a request may not leave yet."""
SHOWS_PLACES = "ai-assets inference queue shows who waits and who holds"
ASKED_ELSEWHERE = "another request or process is asking the same"


@dataclass(kw_only=True, slots=True)
class Silence:
    """Of one endpoint, in one process."""

    wanting: int = 0
    """Requests that are on their way to it or wait for it."""
    staying: int = 0
    """Those of them that have no further endpoint to go to."""
    failures: int = 0
    """That an endpoint which is well does not give, since the last answer."""
    trouble: str = ""
    """What the last failure said."""
    obstacle: str = ""
    """What keeps requests from leaving, where it is not the endpoint itself."""
    behind: str = ""
    """Whose calls have its places or come first, where that is the obstacle."""
    said_at_s: float = 0.0
    """The silence when it was last spoken of; 0: it was not."""
    ended_s: float | None = None
    """A silence that was spoken of and is over; until that is said."""
    _before_s: float = 0.0
    _since: float | None = None

    def begin(self, now: float, *, stays: bool) -> None:
        """A request turns to the endpoint."""
        if self.wanting == 0:
            self._since = now
        self.wanting += 1
        self.staying += stays

    def end(self, now: float, *, stays: bool) -> None:
        """It has an answer, or goes elsewhere."""
        self.wanting -= 1
        self.staying -= stays
        if self.wanting == 0:
            self._before_s = self.seconds(now)
            self._since = None

    def failed(self, error: ErrorClass, message: str) -> None:
        self.trouble = message
        self.failures += error in BREAKING

    def blocked(self, reason: WaitReason) -> None:
        """The endpoint may not be asked now; one that is left alone has failed, be it in another process."""
        self.obstacle, self.behind = OBSTACLES[reason], ""
        if reason == "broken":
            self.failures = max(self.failures, 1)

    def answered(self, now: float) -> None:
        if self.said_at_s:
            self.ended_s = self.seconds(now)
        self.failures, self.said_at_s, self._before_s = 0, 0.0, 0.0
        self.trouble = self.obstacle = self.behind = ""
        self._since = now if self.wanting else None

    def seconds(self, now: float) -> float:
        return self._before_s + (max(now - self._since, 0.0) if self._since is not None else 0.0)

    def outlasts(self, patience_s: float, now: float) -> bool:
        """A slow first answer is no outage: something must have failed."""
        return self.failures > 0 and self.seconds(now) >= patience_s

    def is_due(self, patience_s: float, now: float) -> bool:
        """Whether to speak of it now."""
        if self.wanting == 0:
            return False
        if self.said_at_s:
            return self.seconds(now) >= self.said_at_s + min(self.said_at_s, LONGEST_GAP_S)
        if self.failures:
            return self.seconds(now) >= min(FIRST_SAID_S, patience_s / 4)
        return self.seconds(now) >= (FIRST_SAID_S if self.is_queued else SLOW_SAID_S)

    @property
    def is_queued(self) -> bool:
        """Others have the places, and nothing is wrong."""
        return bool(self.behind) and self.obstacle in (OBSTACLES["full"], OBSTACLES["behind"])


def waiting_line(name: str, endpoint: "Endpoint", silence: Silence, in_flight: int, now: float) -> str:
    """One sentence for the progress line and the log of the run."""
    seconds, waiting = silence.seconds(now), max(silence.wanting - in_flight, 0)
    who = ", ".join(
        f"{count:,} {noun if count == 1 else nouns}"
        for count, noun, nouns in (
            (in_flight, "request is on its way", "requests are on their way"),
            (waiting, "request waits", "requests wait"),
        )
        if count
    )
    if silence.is_queued and not silence.failures and in_flight == 0:
        many = plural(waiting, "request waits", "requests wait")
        since = f"none has had one for {seconds:.0f} s, behind {silence.behind}"
        return f"{many} for a place at endpoint '{name}' (model {endpoint.llm}): {since}; {SHOWS_PLACES}"
    begun = f"endpoint '{name}' (model {endpoint.llm}) has not answered for {seconds:.0f} s"
    if not silence.failures:
        reason = silence.obstacle or silence.trouble or f"each may take {endpoint.timeout_s:g} s (timeout_s)"
        return f"{begun}: {who}; {reason}"
    then = (
        f"The run ends after {endpoint.patience_s:g} s without an answer (patience_s)"
        if silence.staying
        else "Its requests go to the next endpoint of their route"
    )
    return f"{begun} ({silence.trouble or silence.obstacle}): {who}. {then}. What it wants: {trying(name)}"


def again_line(name: str, seconds: float) -> str:
    return f"endpoint '{name}' answers again, after {seconds:.0f} s"


def trying(name: str) -> str:
    """The command that finds what is wrong with an endpoint."""
    return f"ai-assets inference test {name}"
