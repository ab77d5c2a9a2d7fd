"""A digest of a model's files, taken once: weights are large, and definitions are loaded often."""

import contextlib
import hashlib
import json
import os
import threading
from pathlib import Path

from ai_assets.base.home import Home, HomeUnusable
from ai_assets.local_models.model_folder import ModelFolder
from ai_assets.storage.digest import digest

CACHE = "model_digests.json"
BLOCK = 1 << 22
_known: dict[str, str] = {}
_lock = threading.Lock()


def digest_of(folder: ModelFolder) -> str:
    """Of the names and bytes of all files that decide what it computes."""
    return digest([[str(path.relative_to(folder.path)), _digest(path)] for path in folder.files])


def _digest(path: Path) -> str:
    found = path.stat()
    key = f"{path.resolve()}:{found.st_size}:{found.st_mtime_ns}:{found.st_ino}"
    with _lock:
        if key not in _known:
            _known.update(_kept())
        if key not in _known:
            _known[key] = _computed(path)
            if found.st_size > BLOCK:
                _keep(key, _known[key])
        return _known[key]


def _computed(path: Path) -> str:
    whole = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            whole.update(block)
    return whole.hexdigest()


def _cache() -> Path | None:
    with contextlib.suppress(HomeUnusable, OSError):
        return Home.from_environment().root / CACHE
    return None


def _kept() -> dict[str, str]:
    cache = _cache()
    with contextlib.suppress(OSError, ValueError):
        if cache is not None:
            kept = json.loads(cache.read_text(encoding="utf-8"))
            return {str(key): str(value) for key, value in kept.items()}
    return {}


def _keep(key: str, value: str) -> None:
    """Only to be faster: what cannot be written is computed again."""
    cache = _cache()
    if cache is None or not cache.parent.is_dir():
        return
    with contextlib.suppress(OSError):
        draft = cache.with_name(f".{cache.name}.{os.getpid()}")
        draft.write_text(json.dumps({**_kept(), key: value}), encoding="utf-8")
        draft.replace(cache)
