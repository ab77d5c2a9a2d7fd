"""An answer as it comes: pieces of text for a person who watches, and then the answer itself."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue

from ai_assets.inference.records import Answer, Result
from ai_assets.orchestration.typed_output import answered


class TextStream:
    """Pieces can be read once. The call goes on without a reader: it is paid for, so its answer is kept."""

    def __init__(self, call: Callable[[Callable[[str], None]], Result]) -> None:
        self._pieces: SimpleQueue[str | None] = SimpleQueue()
        self._heard = False
        self._result: Future[Result] = Future()
        threading.Thread(target=self._run, args=(call,), name="stream", daemon=True).start()

    def __iter__(self) -> Iterator[str]:
        """Raises `NoAnswer` where the answer breaks off, or what ends all calls (no budget, no price, no key)."""
        while (piece := self._pieces.get()) is not None:
            yield piece
        self._pieces.put(None)  # who iterates again finds the end
        _ = self.answer

    @property
    def answer(self) -> Answer:
        """Waits for the end. From then on it is in the ledger."""
        return answered(self._result.result())

    def _run(self, call: Callable[[Callable[[str], None]], Result]) -> None:
        try:
            result = call(self._hear)
            if isinstance(result, Answer) and not self._heard:
                self._pieces.put(result.text)  # from the ledger, or from an endpoint that tells no pieces
            self._result.set_result(result)
        except BaseException as error:  # noqa: BLE001 - raised where the answer is read
            self._result.set_exception(error)
        finally:
            self._pieces.put(None)

    def _hear(self, piece: str) -> None:
        self._heard = True
        self._pieces.put(piece)
