"""Who does what is done once for a home, where several code locations share it: sending messages, building figures.

The first process that asks keeps a lease for as long as it lives. When it has ended, another takes over.
"""

import threading
from typing import TYPE_CHECKING

from ai_assets.base.errors import LeaseLost
from ai_assets.base.home import SEVERAL_VARIABLE, Home, variable

if TYPE_CHECKING:
    from ai_assets.storage.leases import Lease

LEASE = "work of the home"
_HELD: "dict[str, Lease]" = {}
"""By state store; changed under the lock, as sensors tick in threads."""
_LOCK = threading.Lock()


def done_elsewhere() -> str | None:
    """Who does it, in words; None where it is this process."""
    if variable(SEVERAL_VARIABLE) is None:
        return None
    home = Home.from_environment()
    with _LOCK:
        held = _HELD.get(home.state_url)
        if held is not None and _is_ours(held):
            return None
        _HELD.pop(home.state_url, None)
        return _take(home)


def _is_ours(held: "Lease") -> bool:
    try:
        held.check()
    except LeaseLost:  # this process was suspended for so long that another took over
        return False
    return True


def _take(home: Home) -> str | None:
    from ai_assets.storage.leases import Lease
    from ai_assets.storage.stores import Stores

    lease = Lease(Stores.at(home).state, LEASE)
    if (holder := lease.try_take()) is not None:
        return f"another code location does it ({holder})"
    _HELD[home.state_url] = lease
    return None
