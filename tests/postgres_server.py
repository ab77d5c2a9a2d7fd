"""A PostgreSQL server of its own, from the Debian package, for tests and benches."""

import os
import pwd
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

POSTGRES_PASSWORD = "s3cret-Pa55"


def _programs() -> list[Path]:
    return sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


def is_installed() -> bool:
    return bool(_programs())


@contextmanager
def running_postgres(bin_folder: Path | None = None) -> Iterator["Postgres"]:
    where = os.environ.get("PYTEST_DEBUG_TEMPROOT")  # where the tests write
    with tempfile.TemporaryDirectory(prefix="ai-assets-pg-", dir=where, ignore_cleanup_errors=True) as folder:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = int(free.getsockname()[1])
        server = Postgres(bin=bin_folder or _programs()[-1].parent, folder=Path(folder), port=port)
        server.create()
        server.start()
        try:
            yield server
        finally:
            server.stop()


@dataclass(frozen=True, kw_only=True)
class Postgres:
    bin: Path
    folder: Path
    port: int

    def create(self) -> None:
        password = self.folder / "password"
        password.write_text(POSTGRES_PASSWORD)
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            for path in (self.folder, password):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        initialise = ["initdb", "-D", "data", "-U", "keeper", "-A", "scram-sha-256", f"--pwfile={password}", "-N"]
        self._run(*initialise)

    def start(self) -> None:
        options = f"-h 127.0.0.1 -p {self.port} -k {self.folder} -F"
        self._run("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", "data", "-w", "-m", "immediate", "stop")

    def url(self, database: str = "postgres", password: str = POSTGRES_PASSWORD) -> str:
        return f"postgresql://keeper:{password}@127.0.0.1:{self.port}/{database}"

    def database(self, name: str, template: str = "template1") -> str:
        """The URL of a new database, empty or with what the template has."""
        import psycopg

        with psycopg.connect(self.url(), autocommit=True) as connection:
            # Files are copied sooner than written to the log first, which is what servers since 15 do by themselves.
            strategy = "STRATEGY file_copy" if connection.info.server_version >= 150_000 else ""
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" {strategy}')  # type: ignore[call-overload]
        return self.url(name)

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self.bin / program, *arguments],
            cwd=self.folder,
            check=True,
            stdout=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            user="postgres" if os.geteuid() == 0 else None,  # the server refuses to run as root
        )


def pooler_is_installed() -> bool:
    return _POOLER.exists()


_POOLER = Path("/usr/sbin/pgbouncer")


@contextmanager
def pooled(server: Postgres, sessions: int) -> Iterator[int]:
    """The port of a pgbouncer in transaction mode in front of the server, with so many sessions for each database."""
    with tempfile.TemporaryDirectory(prefix="ai-assets-pooler-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = int(free.getsockname()[1])
        (folder / "users").write_text(f'"keeper" "{POSTGRES_PASSWORD}"\n')
        (folder / "pooler.ini").write_text(
            f"[databases]\n* = host=127.0.0.1 port={server.port}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = scram-sha-256\nauth_file = {folder}/users\nlogfile = {folder}/log\n"
            f"pool_mode = transaction\ndefault_pool_size = {sessions}\nmax_client_conn = 200\n"
        )
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            for path in (folder, *folder.iterdir()):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        running = subprocess.Popen(
            [_POOLER, folder / "pooler.ini"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user="postgres" if os.geteuid() == 0 else None,
        )
        try:
            _answers(port)
            yield port
        finally:
            running.kill()
            running.wait()


def _answers(port: int) -> None:
    deadline = time.monotonic() + 300
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "the pooler does not listen"
            time.sleep(0.05)
