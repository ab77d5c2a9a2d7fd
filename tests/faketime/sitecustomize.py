"""For processes under libfaketime, which refuses the absolute sleep of Python's `time.sleep` (EINVAL)."""

import select
import time

time.sleep = lambda seconds: select.select([], [], [], seconds) and None  # type: ignore[assignment]
