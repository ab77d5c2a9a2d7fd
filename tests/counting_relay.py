"""A relay before a TCP server that counts round trips: how often a client sends after it has heard something."""

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class CountingRelay:
    def __init__(self, port: int) -> None:
        self._there = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self.round_trips = 0
        self._lock = threading.Lock()

    def serve(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _relay(self, client: socket.socket) -> None:
        heard = True
        with (
            client,
            socket.create_connection(("127.0.0.1", self._there)) as server,
            selectors.DefaultSelector() as both,
        ):
            both.register(client, selectors.EVENT_READ, server)
            both.register(server, selectors.EVENT_READ, client)
            while True:
                for ready, _ in both.select():
                    if not (data := ready.fileobj.recv(1 << 16)):  # type: ignore[union-attr]
                        return
                    if ready.fileobj is client and heard:
                        with self._lock:
                            self.round_trips += 1
                    heard = ready.fileobj is server
                    ready.data.sendall(data)


@contextmanager
def counting(port: int) -> Iterator[CountingRelay]:
    relay = CountingRelay(port)
    thread = threading.Thread(target=relay.serve, daemon=True)
    thread.start()
    try:
        yield relay
    finally:
        relay.close()
        thread.join()
