"""Quantities of Kubernetes (`500m`, `2Gi`) as exact numbers, and what a pod asks for and may use."""

from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

_UNITS: Mapping[str, Decimal] = {
    "m": Decimal("0.001"),
    **{unit: Decimal(1000) ** (power + 1) for power, unit in enumerate(("k", "M", "G", "T", "P"))},
    **{f"{unit}i": Decimal(1024) ** (power + 1) for power, unit in enumerate(("K", "M", "G", "T", "P"))},
}
Amounts = Mapping[str, Decimal]


def amount(text: object) -> Decimal:
    said = str(text)
    for unit in sorted(_UNITS, key=len, reverse=True):
        if said.endswith(unit):
            return Decimal(said.removesuffix(unit)) * _UNITS[unit]
    return Decimal(said)


def written(value: Decimal) -> str:
    """As the server writes it: whole numbers, gibibytes where they fit, else thousandths."""
    if value != value.to_integral_value():
        return f"{int(value * 1000)}m"
    for unit in ("Gi", "Mi", "Ki"):
        if value and value % _UNITS[unit] == 0:
            return f"{int(value / _UNITS[unit])}{unit}"
    return str(int(value))


def asked_by(pod_spec: Mapping[str, Any]) -> Amounts:
    """`cpu`, `memory`, `nvidia.com/gpu`: the requests of its containers together; a limit alone is a request too."""
    total: Counter[str] = Counter()
    for container in pod_spec["containers"]:
        resources = container.get("resources") or {}
        asked = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
        _add(total, asked)
    return {name: Decimal(value) for name, value in total.items()}


def limits_of(pod_spec: Mapping[str, Any]) -> Amounts:
    total: Counter[str] = Counter()
    for container in pod_spec["containers"]:
        _add(total, (container.get("resources") or {}).get("limits") or {})
    return {name: Decimal(value) for name, value in total.items()}


def added(parts: Iterable[Amounts]) -> dict[str, Decimal]:
    total: dict[str, Decimal] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total.get(name, Decimal(0)) + value
    return total


def _add(total: Counter[str], resources: Mapping[str, object]) -> None:
    for name, value in resources.items():
        total[name] += amount(value)  # type: ignore[assignment]
