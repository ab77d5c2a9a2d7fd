"""Amounts as Kubernetes writes them: `500m` processors, `2Gi` of memory. Read, checked, compared."""

import re
from decimal import Decimal

from ai_assets.base.plural import plural

_CPU = re.compile(r"(?P<number>[0-9]+(\.[0-9]{1,3})?)(?P<unit>m?)", re.ASCII)
_MEMORY = re.compile(r"(?P<number>[0-9]+(\.[0-9]+)?)(?P<unit>Ki|Mi|Gi|Ti|k|M|G|T|)", re.ASCII)
BYTES = {
    "": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
    "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40,
}  # fmt: skip
LEAST_MEMORY = 64 << 20
"""Python alone does not start with less; `512` without a unit is half a kilobyte."""


def millicores(written: str) -> int:
    """Raises ValueError with what to write."""
    found = _CPU.fullmatch(written)
    amount = Decimal(found["number"]) * (1 if found["unit"] else 1000) if found else Decimal(0)
    if found is None or amount <= 0 or amount != int(amount):
        raise ValueError(f"'{written}' is no number of processors; write such as 2, 0.5 or 500m")
    return int(amount)


def memory_bytes(written: str) -> int:
    """Raises ValueError with what to write."""
    found = _MEMORY.fullmatch(written)
    if found is None:
        raise ValueError(f"'{written}' is no amount of memory; write such as 512Mi or 4Gi")
    amount = int(Decimal(found["number"]) * BYTES[found["unit"]])
    if amount < LEAST_MEMORY:
        raise ValueError(
            f"'{written}' is {plural(amount, 'byte')}, with which nothing starts; write such as 512Mi or 4Gi"
        )
    return amount


def cpu_quantity(thousandths: int) -> str:
    return str(thousandths // 1000) if thousandths % 1000 == 0 else f"{thousandths}m"


def memory_quantity(amount: int) -> str:
    for unit in ("Gi", "Mi", "Ki"):
        if amount % BYTES[unit] == 0:
            return f"{amount // BYTES[unit]}{unit}"
    return str(amount)
