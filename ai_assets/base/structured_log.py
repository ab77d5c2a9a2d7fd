"""Logs as JSON: with AI_ASSETS_LOG=json each line that a process of ours logs to its standard streams is one object.

Whose logger it is does not matter, Dagster's and uvicorn's included: what is changed is how a standard stream writes
a record. What a line is about (run, collection, partition, stage, call, tenant) is told by `log_fields` around the
work, and by what Dagster knows of its own lines. Secrets are masked, and nothing of ours logs the text of a document.
"""

import datetime
import json
import logging
import multiprocessing
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Any

from ai_assets.base.errors import UserError
from ai_assets.base.home import LOG_VARIABLE, variable
from ai_assets.base.masking import masked
from ai_assets.base.printable import readable_json

PLAIN, JSON = "plain", "json"
FIELDS = ("run", "collection", "partition", "stage", "call", "tenant")
_fields: ContextVar[Mapping[str, str] | None] = ContextVar("log_fields", default=None)
_process: str | None = None
"""What this process is called in its lines; None where it logs plain lines."""
_STANDARD = ("stdout", "stderr", "__stdout__", "__stderr__")
_OF_PROGRAMS = {
    "dagster_webserver": "web server", "dagster-webserver": "web server", "dagster-daemon": "daemon",
    "ai_assets.ops.daemon": "daemon", "ai_assets.desk": "desk", "ai_assets.run.worker_process": "worker",
}  # fmt: skip
_OF_ARGUMENTS = {"execute_run": "run", "resume_run": "run", "execute_step": "step", "grpc": "code server",
                 "code-server": "code server"}  # fmt: skip


class LogFormatUnknown(UserError):
    def __init__(self, found: str) -> None:
        super().__init__(f"{LOG_VARIABLE} is '{found}'; known are: {PLAIN}, {JSON}. Unset or change it.")


def is_json() -> bool:
    """Whether this process is told to. Raises where nobody knows what it is told."""
    found = variable(LOG_VARIABLE) or PLAIN
    if found not in (PLAIN, JSON):
        raise LogFormatUnknown(found)
    return found == JSON


def begin(process: str | None = None) -> None:
    """From now on, in this process, where it is told to; a second time changes nothing but its name."""
    global _process
    if not is_json():
        return
    began, _process = _process is not None, process or _process or _named()
    if began:
        return
    _write_as_json()
    logging.captureWarnings(True)
    logging.getLogger("ai_assets").setLevel(logging.INFO)
    for name in ("ai_assets", "py.warnings"):
        if not (logger := logging.getLogger(name)).handlers:
            logger.addHandler(logging.StreamHandler())
            logger.propagate = False
    sys.excepthook = _ended_by
    threading.excepthook = _thread_ended_by


@contextmanager
def log_fields(**fields: str | None) -> Iterator[None]:
    """What lines of this thread or task are about, within the block; without a value nothing is said of it.

    It may stand in a generator: what was there before is put back by value, in whatever context it ends.
    """
    before = _fields.get()
    _fields.set({**(before or {}), **{name: value for name, value in fields.items() if value}})
    try:
        yield
    finally:
        _fields.set(before)


def say(line: str) -> None:
    """What a service tells whoever started it: a plain line on its output, or one as all others are."""
    if _process is None:
        sys.stdout.write(f"{line}\n")
    else:
        logging.getLogger("ai_assets").info("%s", line)
    sys.stdout.flush()


def complain(line: str) -> None:
    """Why a service ends, in one sentence."""
    if _process is None:
        sys.stderr.write(f"{line}\n")
    else:
        logging.getLogger("ai_assets").error("%s", line)


def stream_of_children() -> int | None:
    """For the standard error of a further process: ours where that is JSON, else none."""
    return None if _process is not None else subprocess.DEVNULL


def plain_lines(line: str) -> list[str]:
    """What a line of a log says in words; one that is no object of ours as it is."""
    if not line.startswith('{"time"'):
        return [line]
    try:
        found = json.loads(line)
        return [*str(found["message"]).splitlines(), *str(found.get("error", "")).splitlines()]
    except (ValueError, KeyError, TypeError):
        return [line]


def as_json(record: logging.LogRecord) -> str:
    own = record.__dict__.get("dagster_meta")
    of_dagster: Mapping[str, Any] = own if isinstance(own, Mapping) else {}
    message = str(of_dagster.get("orig_message") or record.getMessage())
    found: dict[str, object] = {
        "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "message": masked(message),
        "logger": record.name,
        "process": _process,
        "pid": os.getpid(),
        **_about(of_dagster),
    }
    if error := _error(record, of_dagster):
        found["error"] = masked(error)
    return readable_json(found)


def _about(of_dagster: Mapping[str, Any]) -> dict[str, str]:
    known = dict(_fields.get() or {})
    step = str(of_dagster.get("step_key") or "")
    from_dagster = {"run": of_dagster.get("run_id"), "collection": step.partition("__segment")[0] if "__segment" in step
                    else None, "stage": step or None}  # fmt: skip
    for name, value in from_dagster.items():
        if value and name not in known:
            known[name] = str(value)
    return {name: known[name] for name in FIELDS if name in known}


def _error(record: logging.LogRecord, of_dagster: Mapping[str, Any]) -> str | None:
    if record.exc_info and record.exc_info[1] is not None:
        return "".join(traceback.format_exception(*record.exc_info))
    data = getattr(of_dagster.get("dagster_event"), "event_specific_data", None)
    error = getattr(data, "error", None)
    return str(error.to_string()) if error is not None and hasattr(error, "to_string") else None


def _write_as_json() -> None:
    as_before = logging.StreamHandler.format

    def formatted(self: "logging.StreamHandler[Any]", record: logging.LogRecord) -> str:
        stream = getattr(self, "stream", None)
        if _process is not None and any(stream is getattr(sys, name) for name in _STANDARD):
            return as_json(record)
        return as_before(self, record)

    logging.StreamHandler.format = formatted  # type: ignore[method-assign, assignment]


def _ended_by(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("ai_assets").critical("%s", error or kind.__name__, exc_info=(kind, error, trace))


def _thread_ended_by(found: threading.ExceptHookArgs) -> None:
    if found.exc_value is not None and found.exc_type is not SystemExit:
        name = found.thread.name if found.thread is not None else "a thread"
        of = (found.exc_type, found.exc_value, found.exc_traceback)
        logging.getLogger("ai_assets").error("%s ended: %s", name, found.exc_value, exc_info=of)


def _named() -> str:
    if multiprocessing.parent_process() is not None:
        return "run"  # a code server starts it so
    program, arguments = Path(sys.argv[0]).name, sys.argv[1:3]
    of_argument = next((_OF_ARGUMENTS[each] for each in arguments if each in _OF_ARGUMENTS), None)
    return of_argument or _OF_PROGRAMS.get(sys.argv[0]) or _OF_PROGRAMS.get(program) or program
