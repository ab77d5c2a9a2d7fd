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
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar

import ai_assets.base.child_main
from ai_assets.base.children import start_child
from ai_assets.documents.parse_text import language_of
from ai_assets.documents.parse_worker import LENGTH, receive

if TYPE_CHECKING:
    import numpy as np

Answer = TypeVar("Answer")
Question: TypeAlias = Literal["languages", "vectors"]
ENOUGH = 100
"""TextWork of a run at which it is started. That takes half a second; so does loading the models here."""


class TextProcess:
    """Answers in order. Safe to share between threads."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair()
        with theirs:
            self._process = start_child(
                [sys.executable, ai_assets.base.child_main.__file__, str(os.getpid()), __name__],
                stdin=theirs.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
            )  # fmt: skip
        self._asked: deque[Future[Any]] = deque()
        self._sending = threading.Lock()
        self._answers = threading.Thread(target=self._receive, name="text-process", daemon=True)
        self._answers.start()

    def ask(self, question: Question, texts: Sequence[str]) -> "Future[Any]":
        future: Future[Any] = Future()
        with self._sending:
            self._asked.append(future)
            with contextlib.suppress(OSError):  # it has ended: whoever waits is told
                _send(self._ours, pickle.dumps((question, list(texts))))
        if not self._answers.is_alive():
            self._give_up()
        return future

    def _receive(self) -> None:
        with contextlib.suppress(OSError), self._ours.makefile("rb") as stream:
            while (body := receive(stream)) is not None:
                self._asked.popleft().set_result(pickle.loads(body))
        self._give_up()

    def _give_up(self) -> None:
        while self._asked:
            with contextlib.suppress(IndexError):
                self._asked.popleft().set_exception(EOFError("the process has ended"))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._ours.close()
        self._answers.join()


class TextWork:
    """What a run asks of texts. The first are computed where they are asked for, the others in a second process."""

    def __init__(self, cores: int) -> None:
        self._asked = 0
        self._process: TextProcess | None = None
        self._starting = threading.Lock()
        self._alone = cores < 2

    def languages(self, texts: Sequence[str]) -> "TextAnswer[list[str | None]]":
        return self._ask("languages", texts)

    def vectors(self, texts: Sequence[str]) -> "TextAnswer[np.ndarray]":
        """Of the built-in embedder."""
        return self._ask("vectors", texts)

    def _ask(self, question: Question, texts: Sequence[str]) -> "TextAnswer[Any]":
        process = self._started(len(texts))
        if process is None:
            return TextAnswer(question, (), _done(computed(question, texts)))
        return TextAnswer(question, texts, process.ask(question, texts))

    def _started(self, texts: int) -> TextProcess | None:
        with self._starting:
            self._asked += texts
            if self._process is None and not self._alone and self._asked >= ENOUGH:
                try:
                    self._process = TextProcess()
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

    def result(self) -> Answer:
        """Waits for it; where the process has ended, it is computed here."""
        try:
            return self.future.result()
        except EOFError:
            found: Answer = computed(self.question, self.texts)
            return found


def _done(value: Answer) -> "Future[Answer]":
    future: Future[Answer] = Future()
    future.set_result(value)
    return future


def computed(question: Question, texts: Sequence[str]) -> Any:
    if question == "languages":
        return [language_of(text) for text in texts]
    from ai_assets.embedding.builtin import BuiltinEmbedder

    return BuiltinEmbedder().embed(texts)


def _send(to: socket.socket, body: bytes) -> None:
    to.sendall(LENGTH.pack(len(body)) + body)


def main() -> None:
    with socket.socket(fileno=os.dup(0)) as parent, parent.makefile("rb") as stream:
        while (body := receive(stream)) is not None:
            question, texts = pickle.loads(body)
            _send(parent, pickle.dumps(computed(question, texts)))


if __name__ == "__main__":
    main()
