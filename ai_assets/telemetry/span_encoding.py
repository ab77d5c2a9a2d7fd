"""Spans as the bytes of OTLP (opentelemetry-proto, trace/v1). Pure.

The SDK's encoder makes some forty objects for a span; that alone would be a twentieth of what a call costs us. Most
attributes of a run's spans are the same again and again, and their bytes are kept. A test holds this to the protocol's
own reading of it.
"""

import struct
from collections.abc import Iterable
from functools import lru_cache

from ai_assets.telemetry.span_records import Attributes, EndedSpan, SpanEvent, Value

_KINDS = {"internal": b"\x30\x01", "client": b"\x30\x03"}
_FAILED = 2


def request(resource: bytes, scope: bytes, spans: Iterable[EndedSpan]) -> bytes:
    """An ExportTraceServiceRequest: of one resource and one scope, both encoded already."""
    scope_spans = b"".join([_field(1, scope), *(_field(2, encoded(span)) for span in spans)])
    return _field(1, _field(1, resource) + _field(2, scope_spans))


def encoded(span: EndedSpan) -> bytes:
    parts = [
        b"\x0a\x10", span.trace_id.to_bytes(16, "big"),
        b"\x12\x08", span.span_id.to_bytes(8, "big"),
        _text(3, span.state) if span.state else b"",
        b"\x22\x08" + span.parent_id.to_bytes(8, "big") if span.parent_id else b"",
        _text(5, span.name),
        _KINDS[span.kind],
        _TIMES.pack(0x39, span.began_ns, 0x41, max(span.began_ns, span.ended_ns)),
        attributes(9, span.attributes),
    ]  # fmt: skip
    if (shared := span.shared) is not None:
        if shared.encoded is None:
            shared.encoded = attributes(9, shared.values)
        parts.append(shared.encoded)
    if span.events:
        parts += [_field(11, _event(event)) for event in span.events]
    if span.error is not None:
        parts.append(_field(15, _text(2, span.error) + b"\x18" + _varint(_FAILED)))
    parts.append(b"\x85\x01\x01\x01\x00\x00")  # flags: sampled, and it is known that the parent is not remote
    return b"".join(parts)


_TIMES = struct.Struct("<BQBQ")


def resource(found: Attributes) -> bytes:
    return attributes(1, found)


def scope(name: str, version: str) -> bytes:
    return _text(1, name) + _text(2, version)


def attributes(number: int, found: Attributes) -> bytes:
    return b"".join([_attribute(number, key, value) for key, value in found.items()])


def _attribute(number: int, key: str, value: Value) -> bytes:
    kind = value.__class__
    if kind is tuple or (kind is str and len(value) <= _KEPT) or (kind is int and 0 <= value <= _COMMON):  # type: ignore[arg-type, operator]
        return _kept(number, key, value)
    return _field(number, _key(key) + _field(2, _value(value)))


_KEPT = 100
"""Characters of a value whose bytes are kept: longer ones seldom come again."""
_COMMON = 4096
"""Numbers up to this come again too: tokens, ports, attempts."""


@lru_cache(maxsize=8192, typed=True)  # True is no 1
def _kept(number: int, key: str, value: Value) -> bytes:
    return _field(number, _key(key) + _field(2, _value(value)))


@lru_cache(maxsize=512)
def _key(key: str) -> bytes:
    return _text(1, key)


def _value(value: Value) -> bytes:
    """An AnyValue."""
    if isinstance(value, bool):
        return b"\x10" + _varint(value)
    if isinstance(value, str):
        return _text(1, value)
    if isinstance(value, int):
        return b"\x18" + _varint(value if value >= 0 else value + (1 << 64))
    if isinstance(value, float):
        return b"\x21" + struct.pack("<d", value)
    return _field(5, b"".join([_field(1, _text(1, each)) for each in value]))


def _event(event: SpanEvent) -> bytes:
    return b"\x09" + struct.pack("<Q", event.at_ns) + _text(2, event.name) + attributes(3, event.attributes)


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode("utf-8", "replace"))


def _field(number: int, body: bytes) -> bytes:
    size = len(body)
    return (_heads(number, size) if size < 256 else _varint(number << 3 | 2) + _varint(size)) + body


@lru_cache(maxsize=8192)
def _heads(number: int, size: int) -> bytes:
    return _varint(number << 3 | 2) + _varint(size)


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
