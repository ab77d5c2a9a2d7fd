"""Spans as the bytes of OTLP (opentelemetry-proto, trace/v1). Pure.

The SDK's encoder makes some forty objects for a span; that alone would be a twentieth of what a call costs us. Most
attributes of a run's spans are the same again and again, and their bytes are kept. A test holds this to the protocol's
own reading of it.
"""

import struct
from collections.abc import Iterable
from functools import lru_cache

from ai_assets.telemetry.span_records import Attributes, EndedSpan, Kind, SpanEvent, Value

_KINDS = {"internal": b"\x30\x01", "client": b"\x30\x03"}
_FAILED = 2


def request(resource: bytes, scope: bytes, spans: Iterable[bytes]) -> bytes:
    """An ExportTraceServiceRequest: of one resource and one scope, all encoded already."""
    scope_spans = b"".join([_field(1, scope), *[_field(2, span) for span in spans]])
    return _field(1, _field(1, resource) + _field(2, scope_spans))


def encoded(span: EndedSpan) -> bytes:
    parts = [
        _IDS.pack(0x0A10, span.trace_id >> 64, span.trace_id & _LOW, 0x1208, span.span_id, 0x2208, span.parent_id)
        if span.parent_id
        else _ROOT_IDS.pack(0x0A10, span.trace_id >> 64, span.trace_id & _LOW, 0x1208, span.span_id),
        _TIMES.pack(0x39, span.began_ns, 0x41, max(span.began_ns, span.ended_ns)),
        _described(span.name, span.kind, span.state),
        attributes(9, span.attributes),
    ]
    if (shared := span.shared) is not None:
        if shared.encoded is None:
            shared.encoded = attributes(9, shared.values)
        parts.append(shared.encoded)
    if span.events:
        parts += [_field(11, _event(event)) for event in span.events]
    if span.error is not None:
        parts.append(_field(15, _text(2, span.error) + b"\x18" + _varint(_FAILED)))
    return b"".join(parts)


_IDS, _ROOT_IDS, _LOW = struct.Struct(">HQQHQHQ"), struct.Struct(">HQQHQ"), (1 << 64) - 1
_TIMES, _DOUBLE = struct.Struct("<BQBQ"), struct.Struct("<d")


@lru_cache(maxsize=512)
def _described(name: str, kind: Kind, state: str) -> bytes:
    flags = b"\x85\x01\x01\x01\x00\x00"  # sampled, and it is known that the parent is not remote
    return _text(5, name) + _KINDS[kind] + (_text(3, state) if state else b"") + flags


def resource(found: Attributes) -> bytes:
    return attributes(1, found)


def scope(name: str, version: str) -> bytes:
    return _text(1, name) + _text(2, version)


def attributes(number: int, found: Attributes) -> bytes:
    parts: list[bytes] = []
    for key, value in found.items():
        if value.__class__ is str:
            body = value.encode("utf-8", "replace")  # type: ignore[union-attr]
            if len(body) <= _SHORT:
                parts += (_head_of_text(number, key, len(body)), body)
                continue
        elif value.__class__ is float:
            parts += (_head_of_double(number, key), _DOUBLE.pack(value))
            continue
        elif value.__class__ is int and 0 <= value < _SMALL:  # type: ignore[operator]
            parts.append(_small(number, key, value))
            continue
        parts.append(_general(number, key, value))
    return b"".join(parts)


_SHORT = 100
"""Bytes of a text before which the same bytes stand whenever it is as long."""


@lru_cache(maxsize=4096)
def _head_of_text(number: int, key: str, size: int) -> bytes:
    """All of an attribute before its text: every attribute of a name and a size begins with the same."""
    return _field(number, _key(key) + _field(2, _text(1, " " * size)))[: -size or None]


@lru_cache(maxsize=512)
def _head_of_double(number: int, key: str) -> bytes:
    return _general(number, key, 0.0)[:-8]


_SMALL = 1 << 12
"""Numbers below it are often the same ones: tokens above all."""


@lru_cache(maxsize=8192)
def _small(number: int, key: str, value: int) -> bytes:
    return _general(number, key, value)


def _general(number: int, key: str, value: Value) -> bytes:
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
        return b"\x21" + _DOUBLE.pack(value)
    return _field(5, b"".join([_field(1, _text(1, each)) for each in value]))


def _event(event: SpanEvent) -> bytes:
    return b"\x09" + struct.pack("<Q", event.at_ns) + _text(2, event.name) + attributes(3, event.attributes)


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode("utf-8", "replace"))


def _field(number: int, body: bytes) -> bytes:
    size = len(body)
    return (_heads(number, size) if size < 2048 else _varint(number << 3 | 2) + _varint(size)) + body


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
