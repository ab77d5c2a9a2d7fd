"""Certificates of the servers that are spoken to by TLS: whether they are accepted here, and until when they hold."""

import contextlib
import socket
import ssl
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

import sqlalchemy as sa

from ai_assets.base.errors import UserError
from ai_assets.base.home import variable
from ai_assets.doctor.expiry import ending
from ai_assets.doctor.findings import Finding, fine, noted, wrong
from ai_assets.doctor.installation import CannotLook, Installation
from ai_assets.storage.objects import DataBucket
from ai_assets.storage.postgres import is_postgres

AT_ONCE = 16
MOST_NAMED = 5
LONGEST_S = 4.0
"""For each step of a handshake."""
HTTPS, POSTGRES = 443, 5432
_STARTTLS = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
"""What PostgreSQL is asked before TLS begins."""
_HAS_EXPIRED = 10
"""X509_V_ERR_CERT_HAS_EXPIRED"""
_RENEW = "Have it renewed by whoever runs that server."


class _NoTls(Exception):
    """The server speaks without."""


@dataclass(frozen=True, kw_only=True)
class _TlsServer:
    host: str
    port: int
    authorities: str | None = None
    """A file of those that are believed; None for those of the system or of SSL_CERT_FILE."""
    trust: str = "Let SSL_CERT_FILE name a file with its authority, or correct the name in its address."
    is_postgres: bool = False
    is_verified: bool = True
    names_host: bool = True
    """Whether its certificate has to be of this host."""


def look(at: Installation) -> Iterator[Finding]:
    used = defaultdict[_TlsServer, list[str]](list)
    for by, server in (*_endpoints(at), *_bucket(at), *_database(at)):
        used[server].append(by)
    if not used:
        yield fine("TLS certificates", "nothing that is declared is reached by TLS")
        return
    timeout_s = min(LONGEST_S, at.timeout_s / 3)
    with ThreadPoolExecutor(min(len(used), AT_ONCE)) as pool:
        for found in pool.map(lambda server: list(_told(server, used[server], timeout_s)), used):
            yield from found


def _endpoints(at: Installation) -> Iterator[tuple[str, _TlsServer]]:
    try:
        settings, tenants = at.inference, at.tenants
    except CannotLook:
        return  # told with the declarations
    for name, endpoint in settings.endpoints.items():
        if at.tenant is None or tenants.why_not(at.tenant, name, endpoint.key) is None:
            for host, port in _of_https(endpoint.base_url):
                yield f"endpoint {name}", _TlsServer(host=host, port=port)


def _bucket(at: Installation) -> Iterator[tuple[str, _TlsServer]]:
    """Of another store than Amazon's."""
    if at.home.data_url is None:
        return
    for host, port in _of_https(DataBucket(at.home.data_url).endpoint or ""):
        yield (
            "bucket",
            _TlsServer(
                host=host, port=port, authorities=variable("AWS_CA_BUNDLE"),
                trust="Let AWS_CA_BUNDLE name a file with its authority, or correct the name in the address.",
            ),
        )  # fmt: skip


def _of_https(url: str) -> Iterator[tuple[str, int]]:
    with contextlib.suppress(ValueError):  # an address that is none is told where it is asked
        place = urlsplit(url)
        if place.scheme == "https" and place.hostname:
            yield place.hostname, place.port or HTTPS


def _database(at: Installation) -> Iterator[tuple[str, _TlsServer]]:
    """Where it is verified, by what the address says; PostgreSQL believes every certificate otherwise."""
    try:
        url = sa.make_url(at.home.state_url)
    except (sa.exc.ArgumentError, ValueError, UserError):
        return  # what is wrong with it is told where it is opened
    mode, authorities = str(url.query.get("sslmode", "prefer")), url.query.get("sslrootcert")
    if not is_postgres(url) or not url.host or "," in url.host or mode in ("disable", "allow"):
        return
    believed = (
        str(authorities) if mode in ("verify-ca", "verify-full") and authorities not in (None, "system") else None
    )
    yield (
        "state store",
        _TlsServer(
            host=url.host, port=url.port or POSTGRES, is_postgres=True, authorities=believed,
            is_verified=believed is not None, names_host=mode == "verify-full",
            trust="Let sslrootcert in AI_ASSETS_STATE_URL name a file with its authority, or correct the name.",
        ),
    )  # fmt: skip


def _told(server: _TlsServer, by: list[str], timeout_s: float) -> Iterator[Finding]:
    more = f" and {len(by) - MOST_NAMED} more" if len(by) > MOST_NAMED else ""
    what = f"TLS certificate of {server.host}:{server.port} ({', '.join(by[:MOST_NAMED])}{more})"
    try:
        yield ending(what, _ends(server, timeout_s), _RENEW)
    except _NoTls:
        yield fine(what, "it speaks without TLS, and is not asked to")
    except ssl.SSLCertVerificationError as error:
        fix = _RENEW if error.verify_code == _HAS_EXPIRED else server.trust
        yield wrong(what, found=f"it is not accepted: {error.verify_message}", fix=fix)
    except (OSError, ValueError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        yield noted(what, found=f"it could not be looked at: {said}", fix="What uses it says more of that server.")


def _ends(server: _TlsServer, timeout_s: float) -> datetime:
    from cryptography import x509

    context = ssl.create_default_context(cafile=server.authorities)
    context.check_hostname = server.names_host and server.is_verified
    context.verify_mode = ssl.CERT_REQUIRED if server.is_verified else ssl.CERT_NONE
    with socket.create_connection((server.host, server.port), timeout=timeout_s) as plain:
        if server.is_postgres:
            plain.sendall(_STARTTLS)
            if plain.recv(1) != b"S":
                raise _NoTls
        with context.wrap_socket(plain, server_hostname=server.host) as wrapped:
            shown = wrapped.getpeercert(binary_form=True)
    assert shown is not None  # a server that shows none has no TLS here
    return x509.load_der_x509_certificate(shown).not_valid_after_utc
