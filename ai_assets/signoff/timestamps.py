"""Dates and times as people write them, turned into the text that the tables hold."""

import datetime
import re

from ai_assets.signoff.errors import MomentInvalid

EARLIEST = datetime.datetime.min.replace(tzinfo=datetime.UTC)
LATEST = datetime.datetime.max.replace(tzinfo=datetime.UTC)
_MOMENT = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)(?:[Tt ](?P<minute>\d\d:\d\d)(?::(?P<second>\d\d)(?:\.(?P<part>\d{1,9}))?)?"
    r"(?P<zone>[Zz]|[+-]\d\d:\d\d)?)?",
    re.ASCII,
)


def moment(asked: str, *, end: bool = False) -> str:
    """As the tables write it: UTC with milliseconds. A date alone is its beginning or, if told so, its end."""
    match = _MOMENT.fullmatch(asked.strip())
    if match is None:
        raise MomentInvalid(asked)
    rest = "23:59:59.999" if end else "00:00:00.000"
    if match["minute"]:
        # A leap second, which RFC 3339 has and Python has not, is the second before it.
        second = "59" if match["second"] == "60" else match["second"] or "00"
        rest = f"{match['minute']}:{second}.{(match['part'] or '0')[:3]:0<3}"
    zone = (match["zone"] or "Z").upper().replace("Z", "+00:00")
    try:
        local = datetime.datetime.fromisoformat(f"{match['day']}T{rest}")
        offset = datetime.datetime.fromisoformat(f"2000-01-01T00:00{zone}").utcoffset() or datetime.timedelta()
    except ValueError as error:
        raise MomentInvalid(asked) from error
    try:
        found = local.replace(tzinfo=datetime.UTC) - offset
    except OverflowError:
        found = EARLIEST if offset > datetime.timedelta() else LATEST
    return found.isoformat(timespec="milliseconds")
