"""Claims about who may hold a connection to the desk: silent, slow and many clients do not keep others from it."""

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Project, eventually, free_port, project_at
from desks import DeskProcess, desk, listening
from starlette.types import Receive, Scope, Send

from ai_assets.desk import connections as desk_connections
from ai_assets.desk.connections import LONGEST_HEADERS_S, MOST_CONNECTIONS, MOST_PER_ADDRESS, _counted_as

ATTACKER, COLLEAGUE = "127.0.0.1", "127.0.0.2"
linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems have one loopback address")
pytestmark = [linux, pytest.mark.slow]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeskProcess]:
    with pytest.MonkeyPatch.context() as patch:
        project = project_at(tmp_path_factory.mktemp("crowded"), patch)
        with desk(project) as started:
            yield started


@dataclass
class Crowd:
    """Sockets that were opened, and what they were sent."""

    sockets: list[socket.socket]

    def send(self, data: bytes) -> None:
        for each in self.sockets:
            with contextlib.suppress(OSError):
                each.sendall(data)

    def open(self) -> list[socket.socket]:
        return [each for each in self.sockets if not _ended(each)]


def _ended(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        while connection.recv(65536):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


@contextlib.contextmanager
def crowd(running: DeskProcess, count: int, address: Callable[[int], str] = lambda _: ATTACKER) -> Iterator[Crowd]:
    with contextlib.ExitStack() as opened:
        sockets = []
        for number in range(count):
            connection = socket.create_connection(("127.0.0.1", running.port), 30, (address(number), 0))
            sockets.append(opened.enter_context(connection))
        yield Crowd(sockets)


def page(running: DeskProcess, address: str, target: str = "/sign-in") -> str:
    """The status line of an answer to somebody at this address; empty where there was none."""
    with socket.create_connection(("127.0.0.1", running.port), 30, (address, 0)) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{running.port}\r\n\r\n".encode())
        return connection.recv(65536).partition(b"\r\n")[0].decode()


def connected(running: DeskProcess) -> int:
    """The descriptors of the desk that are sockets."""
    assert running.process is not None
    links = []
    for entry in Path(f"/proc/{running.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            links.append(str(entry.readlink()))
    return sum(link.startswith("socket:") for link in links)


HALF = b"GET / HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize("trickles", [False, True], ids=["silent", "a byte at a time"])
def test_half_open_connections_keep_nobody_out_and_end_at_the_deadline(running: DeskProcess, trickles: bool) -> None:
    with crowd(running, 600) as attackers:
        attackers.send(HALF)
        eventually(lambda: len(attackers.open()) <= MOST_PER_ADDRESS)  # the others have been hung up on
        for address in (COLLEAGUE, ATTACKER):
            assert page(running, address) == "HTTP/1.1 200 OK"
        give_up = time.monotonic() + 6 * LONGEST_HEADERS_S
        while held := attackers.open():
            assert time.monotonic() < give_up, f"{len(held)} are still open"
            if trickles:
                attackers.send(b"X")
            assert page(running, COLLEAGUE) == "HTTP/1.1 200 OK"
            time.sleep(0.5)
    assert page(running, ATTACKER) == "HTTP/1.1 200 OK"


def test_an_idle_connection_ends_as_a_half_open_one_does(running: DeskProcess) -> None:
    with crowd(running, 1) as visitor:
        visitor.send(f"GET /health HTTP/1.1\r\nHost: 127.0.0.1:{running.port}\r\n\r\n".encode())
        assert visitor.sockets[0].recv(65536).startswith(b"HTTP/1.1 200")
        visitor.send(HALF)
        eventually(lambda: not visitor.open())


def test_requests_under_way_fill_the_places_of_one_address_alone(running: DeskProcess) -> None:
    post = f"POST /sign-in HTTP/1.1\r\nHost: 127.0.0.1:{running.port}\r\nContent-Length: 1000\r\n\r\nname"
    with crowd(running, MOST_PER_ADDRESS) as uploads:
        uploads.send(post.encode())
        eventually(lambda: page(running, ATTACKER) == "HTTP/1.1 503 Service Unavailable")
        assert page(running, COLLEAGUE) == "HTTP/1.1 200 OK"
        assert uploads.sockets[0].recv(65536).startswith(b"HTTP/1.1 408")  # a body that does not come has a deadline
    eventually(lambda: page(running, ATTACKER) == "HTTP/1.1 200 OK")


def test_many_addresses_together_take_no_place_from_who_asks_for_a_page(running: DeskProcess) -> None:
    with crowd(running, MOST_CONNECTIONS + 200, lambda number: f"127.0.1.{1 + number % 20}") as attackers:
        attackers.send(HALF)
        eventually(lambda: connected(running) <= MOST_CONNECTIONS + 80)
        assert page(running, COLLEAGUE) == "HTTP/1.1 200 OK"
    eventually(lambda: connected(running) < MOST_CONNECTIONS)


def test_who_reads_no_answer_loses_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk_connections, "LONGEST_UNREAD_S", 1)
    ended = threading.Event()

    async def large(scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(1_000):
                await send({"type": "http.response.body", "body": bytes(1 << 16), "more_body": True})
            await send({"type": "http.response.body"})
            ended.set()

    port, received = free_port(), 0
    with (
        listening(large, port, http=desk_connections.connections(None)),
        socket.create_connection(("127.0.0.1", port), 30) as connection,
    ):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert ended.wait(60)  # what is sent to a connection that was closed goes nowhere
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(1 << 16):
                received += len(part)
    assert received < 1_000 << 16


def test_the_declared_proxy_may_hold_more_than_one_address_may(project: Project) -> None:
    (project.root / "desk.yaml").write_text(f"sign_in:\n  proxy: {{addresses: ['{ATTACKER}']}}\n")
    with desk(project) as running, crowd(running, 2 * MOST_PER_ADDRESS) as behind_it:
        behind_it.send(HALF)
        assert page(running, ATTACKER) == "HTTP/1.1 200 OK"
        assert len(behind_it.open()) == 2 * MOST_PER_ADDRESS


@pytest.mark.parametrize(
    ("client", "counted"),
    [
        (("10.0.0.7", 5), "10.0.0.7"),
        (("::ffff:10.0.0.7", 5), "10.0.0.7"),
        (("2001:db8::1", 5), "2001:db8::/64"),
        (("2001:db8::2:1%eth0", 5), "2001:db8::/64"),
        (None, ""),
    ],
)
def test_an_ipv6_network_counts_as_one_address(client: tuple[str, int] | None, counted: str) -> None:
    assert _counted_as(client) == counted
