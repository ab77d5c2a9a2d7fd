"""What the clients of bench/inference.py ask, the same for all of them."""

import random
from typing import Any

from bench.measure import WORDS

SYSTEM = "Classify the message into one of: billing, bug, feature, praise, other. Answer with the label."


def messages(number: int) -> list[dict[str, Any]]:
    """A message of 60 to 100 words, the same for the same number."""
    generator = random.Random(number)
    text = " ".join(generator.choices(WORDS, k=60 + number % 40))
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": f"[doc-{number:06d}] {text}"}]
