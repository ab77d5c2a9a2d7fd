"""How far the clock of another machine is from ours: leases, windows and prices by the hour go by clocks."""

from collections.abc import Iterator

from ai_assets.doctor.findings import Finding, fine

WORTH_TELLING_S = 2.0
TOO_MUCH_S = 60.0


def skew(of: str, seconds: float, known_to_s: float) -> Iterator[Finding]:
    """`seconds`: by how much it is ahead of ours, known to `known_to_s`."""
    what, off = f"clock of {of}", abs(seconds) - known_to_s
    if off <= WORTH_TELLING_S:
        yield fine(what, "it agrees with the one here")
        return
    yield Finding(
        level="error" if off > TOO_MUCH_S else "warning",
        looked_at=what,
        found=f"it is {abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} the one here",
        fix="Set both by NTP: windows, deadlines, prices by the hour and signatures go by them.",
    )
