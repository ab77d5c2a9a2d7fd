"""A second process for what a text alone decides: its language, and its built-in vector.

Python computes on one core at a time, and a run that waits for models has enough to do on it. So a run with many texts
starts one such process, where there is a core for it. It is a matter of speed alone: where it cannot be started, or has
ended, the same is computed here.
"""

import contextlib
import os
import pickle
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar

import ai_assets.base.child_main
from ai_assets.base.children import start_child
from ai_assets.documents.languages import languages_of
from ai_assets.documents.parse_worker import LENGTH, receive

if TYPE_CHECKING:
    import numpy as np

Answer = TypeVar("Answer")
Question: TypeAlias = Literal["languages", "vectors"]
ENOUGH = 100
"""Texts of a run at which it is started. That takes half a second; so does loading the models here."""
_SOME = "A sentence of which the language can be told."


class TextProcess:
    """Answers in order. Safe to share between threads."""

    def __init__(self, folder: Path | None = None) -> None:
        """`folder`: of the model of languages, where it is unpacked."""
        self._folder = folder
        self._ours, theirs = socket.socketpair()
        with theirs:
            self._process = start_child(
                [sys.executable, ai_assets.base.child_main.__file__, str(os.getpid()), __name__],
                stdin=theirs.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
            )  # fmt: skip
        self._asked: deque[Future[Any]] = deque()
        self._is_over = False
        self._asking = threading.Lock()
        self._unsent: SimpleQueue[bytes | None] = SimpleQueue()
        self._answers = threading.Thread(target=self._receive, name="text-process", daemon=True)
        self._questions = threading.Thread(target=self._send_all, name="text-process", daemon=True)
        self._answers.start()
        self._questions.start()

    def ask(self, question: Question, texts: Sequence[str]) -> "Future[Any]":
        """At once, also while it begins or is behind."""
        future: Future[Any] = Future()
        body = pickle.dumps((question, list(texts), self._folder))
        with self._asking:
            self._asked.append(future)
            self._unsent.put(body)
        if self._is_over:
            self._give_up()
        return future

    def _send_all(self) -> None:
        with contextlib.suppress(OSError):  # it has ended: whoever waits is told
            while (body := self._unsent.get()) is not None:
                _send(self._ours, body)

    def _receive(self) -> None:
        with contextlib.suppress(OSError), self._ours.makefile("rb") as stream:
            while (body := receive(stream)) is not None:
                self._asked.popleft().set_result(pickle.loads(body))
        self._is_over = True  # before: who asks from now on gives up by themselves
        self._give_up()

    def _give_up(self) -> None:
        while self._asked:
            with contextlib.suppress(IndexError):
                self._asked.popleft().set_exception(EOFError("the process has ended"))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._unsent.put(None)
        self._questions.join()
        self._ours.close()
        self._answers.join()


class TextWork:
    """What a run asks of texts. The first are computed where they are asked for, the others in a second process."""

    def __init__(self, cores: int, folder: Path | None = None) -> None:
        self._folder = folder
        self._asked = 0
        self._process: TextProcess | None = None
        self._starting = threading.Lock()
        self._alone = cores < 2

    def get_ready(self) -> None:
        """Many texts will come: by then the process has the model of languages."""
        if (process := self._started(ENOUGH)) is not None:
            process.ask("languages", [_SOME])

    def languages(self, texts: Sequence[str]) -> "TextAnswer[list[str | None]]":
        return self._ask("languages", texts)

    def vectors(self, texts: Sequence[str]) -> "TextAnswer[np.ndarray]":
        """Of the built-in embedder."""
        return self._ask("vectors", texts)

    def _ask(self, question: Question, texts: Sequence[str]) -> "TextAnswer[Any]":
        process = self._started(len(texts))
        if process is None:
            return TextAnswer(question, (), _done(computed(question, texts, self._folder)))
        return TextAnswer(question, texts, process.ask(question, texts), self._folder)

    def _started(self, texts: int) -> TextProcess | None:
        with self._starting:
            self._asked += texts
            if self._process is None and not self._alone and self._asked >= ENOUGH:
                try:
                    self._process = TextProcess(self._folder)
                except OSError:  # no memory, no more processes
                    self._alone = True
            return self._process

    def close(self) -> None:
        if self._process is not None:
            self._process.close()


@dataclass(frozen=True)
class TextAnswer(Generic[Answer]):
    question: Question
    texts: Sequence[str]
    future: "Future[Answer]"
    folder: Path | None = None

    def result(self) -> Answer:
        """Waits for it; where the process has ended, it is computed here."""
        try:
            return self.future.result()
        except EOFError:
            found: Answer = computed(self.question, self.texts, self.folder)
            return found


def _done(value: Answer) -> "Future[Answer]":
    future: Future[Answer] = Future()
    future.set_result(value)
    return future


def computed(question: Question, texts: Sequence[str], folder: Path | None = None) -> Any:
    if question == "languages":
        return languages_of(texts, folder)
    from ai_assets.embedding.builtin import BuiltinEmbedder

    return BuiltinEmbedder().embed(texts)


def _send(to: socket.socket, body: bytes) -> None:
    to.sendall(LENGTH.pack(len(body)) + body)


def main() -> None:
    with socket.socket(fileno=os.dup(0)) as parent, parent.makefile("rb") as stream:
        while (body := receive(stream)) is not None:
            question, texts, folder = pickle.loads(body)
            _send(parent, pickle.dumps(computed(question, texts, folder)))


if __name__ == "__main__":
    main()
