"""How many calls this process keeps in flight at one endpoint: more while all goes well, fewer on 429. Pure.

Growth doubles per round trip up to the first 429; then it is one at a time, after a patience that doubles each time the
same height is refused. Where a good deal less is refused no more seldom, concurrency is not what the provider counts (a
rate limit, or chance): then for a while the limit grows again, and the calls are left to Retry-After.
"""

FIRST_LIMIT = 32
FIRST_PATIENCE = 2
LONGEST_PATIENCE = 64
DEAF_FOR = 500
"""For so many outcomes no 429 lowers the limit, once lowering it to three quarters has not helped."""
SELDOM, OFTEN = 0.25, 0.4
"""Shares of 429: below the first they may be chance; above the second the provider cannot take this much."""
WEIGHT = 0.05
"""Of the latest outcome in the share: it remembers about 20."""


class Ramp:
    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = min(FIRST_LIMIT, most)
        self._starting = True
        self._good = 0
        """Answers since the limit last changed."""
        self._patience = FIRST_PATIENCE
        self._refused_at = 0
        """The height of the last 429 that lowered the limit."""
        self._fell_from = 0
        """Where the present fall began; 0 when the limit has grown since."""
        self._deaf = 0
        self._share = 0.0

    def answered(self) -> None:
        """An answer, or a failure that has nothing to do with how much was asked."""
        self._share *= 1 - WEIGHT
        self._deaf = max(self._deaf - 1, 0)
        self._good += 1
        if self._starting or self._deaf:
            self.limit = min(self.limit + 1, self.most)
        elif self._good >= self.limit * (self._patience if self.limit + 1 >= self._refused_at else 1):
            self._fell_from = 0
            self.limit, self._good = min(self.limit + 1, self.most), 0
            if self.limit > self._refused_at + 1:
                self._patience = FIRST_PATIENCE  # what was refused there once is taken now

    def limited(self, in_flight: int) -> None:
        """A 429 while so many calls, itself included, were in flight."""
        self._share += WEIGHT * (1 - self._share)
        if self._deaf and self._share < OFTEN:
            self._deaf -= 1
            return
        self._starting, self._deaf = False, 0
        height = min(in_flight, self.limit)
        falling = self._fell_from > 0
        self._fell_from = max(self._fell_from, height)
        if height <= self._fell_from * 0.75 and self._share < SELDOM:
            self._deaf, self._fell_from = DEAF_FOR, 0
            return
        if not falling:  # the other refusals of one fall are of calls that were under way already
            again = abs(height - self._refused_at) <= 1
            self._patience = min(self._patience * 2, LONGEST_PATIENCE) if again else FIRST_PATIENCE
        self._refused_at = height
        self.limit, self._good = max(height - 1, 1), 0
