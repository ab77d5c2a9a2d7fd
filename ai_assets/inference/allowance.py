"""The retry budget of a process: retries may be at most a share of first attempts, and beyond it they wait. Pure."""

FIRST = 20.0
"""Retries that need no first attempts, so that a small job can be retried at all."""
MOST = 500.0
PER_SECOND = 1.0
"""What flows in with time, so that the last of a job's calls are not stuck."""


class RetryAllowance:
    def __init__(self, share: float, now_s: float) -> None:
        self._share = share
        self._left = FIRST
        self._filled_at = now_s

    def attempted(self) -> None:
        """A first attempt was made."""
        self._left = min(self._left + self._share, MOST)

    def take(self, now_s: float) -> float:
        """0 when a retry may go now, otherwise the seconds until it is worth asking again."""
        self._left = min(self._left + (now_s - self._filled_at) * PER_SECOND, MOST)
        self._filled_at = now_s
        if self._left < 1:
            return (1 - self._left) / PER_SECOND
        self._left -= 1
        return 0.0
