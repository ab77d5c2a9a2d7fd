"""Text of scanned pages, by the program tesseract: off unless a collection declares it, as it takes seconds a page.

The process that reads files draws the pages; the program sees only these pictures, under limits of its own.
"""

import functools
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ai_assets.base.errors import OcrUnavailable
from ai_assets.base.plural import plural
from ai_assets.documents.parse_text import Unreadable, UnreadNow, normalise
from ai_assets.documents.parse_worker import Converted

PROGRAM = "tesseract"
_BETWEEN = "\n\n"
_MEMORY_BYTES = 2 << 30


@dataclass(frozen=True, kw_only=True)
class OcrLimits:
    languages: tuple[str, ...]
    """As tesseract names them: `eng`, `deu`."""
    page_timeout_s: float
    max_pages: int
    """Of one document; one with more scanned pages is quarantined, not read in part."""


@dataclass(kw_only=True)
class OcrSpent:
    """What it has cost so far."""

    pages: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Ocr:
    limits: OcrLimits
    spent: OcrSpent = field(default_factory=OcrSpent)

    def completed(self, found: Converted, picture: Callable[[int], bytes]) -> Converted:
        """With the text of its scanned pages; `picture` draws one."""
        if not found.scanned:
            return found
        if len(found.scanned) > self.limits.max_pages:
            raise Unreadable(
                f"{plural(len(found.scanned), 'scanned page')}; the limit is "
                f"{self.limits.max_pages:,} (source.ocr.max_pages)"
            )
        self._require()
        read = {number: self._read(number, picture(number)) for number in found.scanned}
        text, pages = _with_pages(found, read)
        library = found.read_by if found.text.strip() else None
        return replace(found, text=text, pages=pages, read_by="+".join(filter(None, (library, PROGRAM))))

    def _require(self) -> None:
        """One sentence where the program or the data of a language is not installed."""
        installed = _languages(shutil.which(PROGRAM))
        for language in self.limits.languages:
            if language not in installed:
                raise OcrUnavailable(language if installed else None)

    def _read(self, number: int, picture: bytes) -> str:
        started = time.monotonic()
        command = [PROGRAM, "stdin", "stdout", "-l", "+".join(self.limits.languages), "--psm", "3"]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(),
            start_new_session=True,
        )
        try:
            if sys.platform == "linux":
                resource.prlimit(process.pid, resource.RLIMIT_AS, (_MEMORY_BYTES,) * 2)
            said, complaint = process.communicate(picture, timeout=self.limits.page_timeout_s)
        except subprocess.TimeoutExpired:
            raise UnreadNow(
                f"reading the scanned page {number + 1} took longer than {self.limits.page_timeout_s:g} s "
                "(source.ocr.page_timeout_s)"
            ) from None
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
            self.spent.pages += 1
            self.spent.seconds += time.monotonic() - started
        if process.returncode:
            last = complaint.decode(errors="replace").strip().splitlines()[-1:] or ["no details"]
            raise UnreadNow(f"the scanned page {number + 1} could not be read: {PROGRAM}: {last[0][:200]}")
        return normalise(said.decode(errors="replace"))


def _environment() -> dict[str, str]:
    """Nothing of ours but where it finds its data; one thread, as the run has others."""
    kept = {name: os.environ[name] for name in ("PATH", "TESSDATA_PREFIX") if name in os.environ}
    return {**kept, "OMP_THREAD_LIMIT": "1", "LC_ALL": "C.UTF-8"}


@functools.cache
def _languages(program: str | None) -> frozenset[str]:
    """Those it has data for; none where it is not installed."""
    if program is None:
        return frozenset()
    done = subprocess.run([program, "--list-langs"], capture_output=True, env=_environment(), timeout=60, check=False)
    return frozenset(done.stdout.decode(errors="replace").split("\n")[1:]) - {""}


def _with_pages(found: Converted, read: "dict[int, str]") -> tuple[str, Sequence[int]]:
    """The text with these pages in their places, and where all pages begin in it."""
    ends = [*found.pages[1:], len(found.text)]
    text, pages = "", []
    for number, (start, end) in enumerate(zip(found.pages, ends, strict=True)):
        piece = read.get(number)
        if piece is None:
            piece = found.text[start:end]
            text = text if not text or text.endswith("\n") or number - 1 not in read else text + _BETWEEN
        elif text and piece:
            text = text.rstrip("\n") + _BETWEEN
        pages.append(len(text))
        text += piece
    return text, pages
