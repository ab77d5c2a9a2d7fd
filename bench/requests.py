"""What the clients of bench/inference.py ask, the same for all of them."""

import random
from typing import Any

from bench.measure import WORDS

SYSTEM = "Classify the message into one of: billing, bug, feature, praise, other. Answer with the label."
_GENERATOR = random.Random(7)
_TEXTS = [" ".join(_GENERATOR.choices(WORDS, k=60 + number % 40)) for number in range(97)]


def messages(number: int) -> list[dict[str, Any]]:
    """A message of 60 to 100 words; cheap, so that asking is not what is measured."""
    text = f"[doc-{number:06d}] {_TEXTS[number % len(_TEXTS)]}"
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]
