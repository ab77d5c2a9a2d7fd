"""The identity of a call: the very bytes that are sent, and where. What it does not see has no part in it."""

from ai_assets.inference.errors import ProtocolFailed
from ai_assets.inference.records import Request, RequestKind
from ai_assets.inference.settings import Endpoint
from ai_assets.protocols.registry import BUILTIN, OPENAI, protocol_of
from ai_assets.storage.digest import canonical_json, sha256_hex

KEY_CHARACTERS = 40
_OF_TENANT = "tenant"
"""160 bits: nobody finds two requests with one key, and the index of millions of calls stays small."""


class Unhashable(Exception):
    """A part of a request that the protocol cannot write, and so neither a provider nor an identity."""


def call_key(endpoint: Endpoint, body: bytes, sample: int, kind: RequestKind) -> str:
    """Same endpoint, same bytes, same sample: the same call, in any run, stage or process.

    The OpenAI protocol has everything in its bytes. Others may have the model or their options in the address.
    """
    protocol = protocol_of(endpoint.protocol)
    address = protocol.address(endpoint)
    where = f"1\n{address}\n{sample}\n"
    if protocol.name != OPENAI:
        options = canonical_json(protocol.decisive(endpoint))
        where = f"2\n{protocol.name}\n{kind}\n{endpoint.llm}\n{options}\n{address}\n{sample}\n"
    return sha256_hex(where.encode() + body)[:KEY_CHARACTERS]


def key_within(tenant: str, key: str) -> str:
    """The same call, apart for a tenant: no other one finds its answer, or waits for it."""
    return sha256_hex(f"{_OF_TENANT}\n{tenant}\n{key}".encode())[:KEY_CHARACTERS]


def model_of(endpoint: Endpoint) -> tuple[str, str]:
    """Address and model, which a row of a stage depends on; at built-in model servers their options are in it too."""
    protocol = protocol_of(endpoint.protocol)
    address = protocol.address(endpoint)
    if protocol.name in BUILTIN and (options := protocol.decisive(endpoint)):
        address = f"{address} {canonical_json(options)}"
    return address, endpoint.llm


def body_of(endpoint: Endpoint, request: Request) -> bytes:
    """The request as the endpoint gets it."""
    try:
        return protocol_of(endpoint.protocol).encode(endpoint, request)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Unhashable(str(error)) from error
    except Exception as error:
        raise ProtocolFailed(protocol_of(endpoint.protocol).name, error, None) from error
