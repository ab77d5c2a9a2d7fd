"""Giving the newest checkpoint to every declared witness, and remembering what each answered.

Nothing waits for a witness: each is given the note in a thread, a failure is tried again with growing pauses, and a
newer checkpoint replaces one that did not arrive, because it stands for all records before it.
"""

import json
import threading
import time
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

import sqlalchemy as sa

from ai_assets.base.errors import AiAssetsError, LeaseBusy
from ai_assets.signoff import checkpoints
from ai_assets.signoff.signed_note import SignedNote
from ai_assets.signoff.witness_kinds import WitnessContext, give
from ai_assets.signoff.witness_settings import WitnessSettings
from ai_assets.storage.leases import hold
from ai_assets.storage.state import StateStore, upsert
from ai_assets.storage.stores import Stores

LEASE = "witnesses"
FIRST_RETRY_S, LAST_RETRY_S = 60.0, 3600.0
STUCK_S = 600.0
"""A thread that had no answer for so long is forgotten."""
STAMP_SUFFIX = ".tsr"


@dataclass(frozen=True, kw_only=True)
class WitnessStatus:
    """How far a witness is."""

    witness: str
    size: int | None = None
    """Records of the newest checkpoint that it has."""
    sent_at: str | None = None
    receipt: str | None = None
    error: str | None = None
    """Why it has not got a newer one."""
    attempts: int = 0
    next_try_at: str | None = None


@dataclass(frozen=True, kw_only=True)
class WitnessCounts:
    sent: int = 0
    failed: int = 0
    under_way: int = 0


class _CheckpointDelivery:
    """A note on its way to one witness, in a thread that nobody has to wait for."""

    def __init__(self, witness: WitnessSettings, note: SignedNote, around: WitnessContext) -> None:
        self.witness, self.note, self.started_at = witness, note, time.monotonic()
        self.receipt: str | None = None
        self.error: str | None = "giving it broke off; see the log of the code server"
        self._around = around
        self._thread = threading.Thread(target=self._run, name="witness", daemon=True)
        self._thread.start()

    def wait(self, until: float) -> bool:
        """Whether it has ended by then."""
        self._thread.join(max(0.0, until - time.monotonic()))
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self.receipt = give(self.witness, self.note, self._around)
            self.error = None
        except AiAssetsError as error:
            self.error = getattr(error, "found", str(error))


_UNDER_WAY: dict[tuple[str, str], _CheckpointDelivery] = {}
"""By store and witness, in this process; changed only by who holds the lease."""


def deliver(
    stores: Stores,
    witnesses: Sequence[WitnessSettings],
    channels: Mapping[str, str],
    moment: str,
    *,
    budget_s: float = 10.0,
    at_once: bool = False,
) -> WitnessCounts:
    """Give the newest checkpoint to who has not got it and is due, and return within the budget.

    `at_once`: also to who would wait after a failure.
    """
    state = stores.state
    with state.read() as connection:
        if not _due(connection, witnesses, moment, at_once) and not _mine(state):
            return WitnessCounts()
    try:
        with hold(state, LEASE, wait_s=0) as lease:
            until = time.monotonic() + budget_s
            before = _note_outcomes(stores, moment, time.monotonic())
            with state.read() as connection:
                due = _due(connection, witnesses, moment, at_once)
                row = checkpoints.newest(connection)
            lease.check()
            around = WitnessContext(project=stores.home.project, channels=channels)
            for witness in due:
                if row is not None and (state.url, witness.name) not in _UNDER_WAY:
                    _UNDER_WAY[state.url, witness.name] = _CheckpointDelivery(
                        witness, SignedNote.read(row.note), around
                    )
            after = _note_outcomes(stores, moment, until)
    except LeaseBusy:
        return WitnessCounts()
    return WitnessCounts(sent=before.sent + after.sent, failed=before.failed + after.failed, under_way=after.under_way)


def standings(connection: sa.Connection, witnesses: Sequence[WitnessSettings]) -> list[WitnessStatus]:
    """Of each declared witness, in that order."""
    return [_standing(connection, witness.name) for witness in witnesses]


def _standing(connection: sa.Connection, name: str) -> WitnessStatus:
    sent = connection.execute(
        sa.text("SELECT size, sent_at, receipt FROM checkpoint_witnesses WHERE witness = :w AND state = 'sent' "
                "ORDER BY size DESC LIMIT 1"), {"w": name},
    ).one_or_none()  # fmt: skip
    waits = connection.execute(
        sa.text("SELECT error, attempts, next_try_at FROM checkpoint_witnesses WHERE witness = :w "
                "AND state = 'waiting' ORDER BY size DESC LIMIT 1"), {"w": name},
    ).one_or_none()  # fmt: skip
    return WitnessStatus(
        witness=name,
        size=sent.size if sent else None,
        sent_at=sent.sent_at if sent else None,
        receipt=sent.receipt if sent else None,
        error=waits.error if waits else None,
        attempts=waits.attempts if waits else 0,
        next_try_at=waits.next_try_at if waits else None,
    )


def _due(
    connection: sa.Connection, witnesses: Sequence[WitnessSettings], moment: str, at_once: bool
) -> list[WitnessSettings]:
    """Who has not got the newest checkpoint. A next try that is further off than any pause is from another clock."""
    row = checkpoints.newest(connection)
    if row is None:
        return []
    horizon, found = _later(moment, 2 * LAST_RETRY_S), []
    for witness in witnesses:
        standing = _standing(connection, witness.name)
        waits = standing.next_try_at is not None and moment < standing.next_try_at <= horizon
        if standing.size != row.size and (at_once or not waits):
            found.append(witness)
    return found


def _mine(state: StateStore) -> dict[str, _CheckpointDelivery]:
    return {name: giving for (url, name), giving in _UNDER_WAY.items() if url == state.url}


def _note_outcomes(stores: Stores, moment: str, until: float) -> WitnessCounts:
    """Wait for what is under way, and write down how it went."""
    sent = failed = under_way = 0
    for name, giving in _mine(stores.state).items():
        ended = giving.wait(until)
        waited_s = time.monotonic() - giving.started_at
        if not ended and waited_s < STUCK_S:
            under_way += 1
            continue
        del _UNDER_WAY[stores.state.url, name]
        with stores.state.write() as connection:
            if ended and giving.receipt is not None:
                _note_sent(connection, name, giving.note, giving.receipt, moment)
                sent += 1
            else:
                error = giving.error if ended else f"no answer after {waited_s:.0f} s"
                _note_failed(connection, name, giving.note, error or "", moment)
                failed += 1
        if ended and giving.receipt is not None and giving.witness.timestamp is not None:
            _keep_stamp(stores, giving)
    return WitnessCounts(sent=sent, failed=failed, under_way=under_way)


def _note_sent(connection: sa.Connection, name: str, note: SignedNote, receipt: str, moment: str) -> None:
    connection.execute(
        sa.text("DELETE FROM checkpoint_witnesses WHERE witness = :w AND state = 'waiting'"), {"w": name}
    )
    values = {"state": "sent", "attempts": 0, "next_try_at": moment, "error": None, "receipt": receipt,
              "sent_at": moment}  # fmt: skip
    upsert(connection, "checkpoint_witnesses", {"witness": name, "size": note.size}, values)


def _note_failed(connection: sa.Connection, name: str, note: SignedNote, error: str, moment: str) -> None:
    """The pause grows with the failures in a row, over newer checkpoints too."""
    attempts = _standing(connection, name).attempts + 1
    pause_s = min(LAST_RETRY_S, FIRST_RETRY_S * 2 ** min(attempts - 1, 10))
    connection.execute(
        sa.text("DELETE FROM checkpoint_witnesses WHERE witness = :w AND state = 'waiting'"), {"w": name}
    )
    values = {"state": "waiting", "attempts": attempts, "next_try_at": _later(moment, pause_s), "error": error,
              "receipt": None, "sent_at": None}  # fmt: skip
    upsert(connection, "checkpoint_witnesses", {"witness": name, "size": note.size}, values)


def _keep_stamp(stores: Stores, giving: _CheckpointDelivery) -> None:
    """Beside the note, where it is of use when the state store is lost."""
    note = stores.home.checkpoints / checkpoints.file_name(giving.note)
    answer = b64decode(json.loads(giving.receipt or "{}")["answer"])
    if note.exists():
        which = sha256(giving.witness.name.encode()).hexdigest()[:8]
        note.with_name(f"{note.stem}-{which}{STAMP_SUFFIX}").write_bytes(answer)


def _later(moment: str, seconds: float) -> str:
    return (datetime.fromisoformat(moment) + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")
