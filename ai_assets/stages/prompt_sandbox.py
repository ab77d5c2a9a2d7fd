# ruff: noqa: N802  Jinja's compiler calls its visitors by these names
"""Jinja for prompts, with a bound on what a template may make: text, items, digits, and steps.

Jinja's own sandbox keeps a template from private things and lets it fill the memory: `{{ 'x' * 9999999999 }}`. Each
operation that can make more than it is given is measured before it is done.
"""

import re
import threading
import time
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from html import unescape
from string import Formatter
from typing import Any

from jinja2 import StrictUndefined, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter

from ai_assets.base.plural import plural

MOST_CHARACTERS = 20_000_000
"""Of a text: four times the largest document."""
MOST_ITEMS = 1_000_000
MOST_BITS = 10_000
"""Of a whole number: 3,000 digits."""
MOST_STEPS = 10_000_000
"""Of a rendering: a turn of a loop, an operation, a hundred characters or one item that an operation looks at."""
MOST_CPU_S = 30.0
"""Against what the steps do not see, such as comparing long texts in each turn of a long loop."""
_WIDEST = 10_000
"""Of a field that is padded."""
_CLOCK_EVERY = 10_000
_WIDTH = re.compile(r"\d{5,}|\*")
_SIZED = (str, bytes, list, tuple, dict, range)
_STRETCHING = frozenset({"center", "ljust", "rjust", "zfill"})
_REFUSED = {str: frozenset({"encode", "translate", "maketrans"})}
_ALLOWED: Mapping[type, frozenset[str]] = {
    dict: frozenset({"copy", "get", "items", "keys", "values"}),
    list: frozenset({"copy", "count", "index"}),
    tuple: frozenset({"count", "index"}),
    range: frozenset({"count", "index"}),
    int: frozenset({"bit_length", "is_integer"}),
    float: frozenset({"is_integer"}),
    bytes: frozenset(),
}
_BUILTIN: tuple[type, ...] = (str, *_ALLOWED)


def _too_large(found: str) -> SecurityError:
    return SecurityError(f"{found}; a prompt may not make so much")


def fits(characters: int) -> None:
    if characters > MOST_CHARACTERS:
        raise _too_large(f"this would have {plural(characters, 'character')}, the limit is {MOST_CHARACTERS:,}")


def _weight(value: object, left: int = MOST_ITEMS) -> int:
    """Items, with those inside of items, and hundreds of characters; no further than `left`."""
    if isinstance(value, str | bytes):
        return 1 + len(value) // 100
    if isinstance(value, dict):
        inner: Iterable[object] = value.values()
    elif isinstance(value, list | tuple):
        inner = value
    else:
        return 1 + len(value) if isinstance(value, range) else 1
    total = 1
    for item in inner:
        total += _weight(item, left - total)
        if total > left:
            raise _too_large(f"this would have more than {MOST_ITEMS:,} items")
    return total


class _RenderingUsage(threading.local):
    """What the rendering in this thread has taken so far."""

    steps = 0
    clock_at = 0
    began_s: float | None = None


class BoundedCode(CodeGenerator):
    """Has each loop counted, and what is put together measured."""

    def visit_For(self, node: nodes.For, frame: Frame) -> None:
        counted = nodes.Call(nodes.EnvironmentAttribute("counted"), [node.iter], [], None, None)
        super().visit_For(nodes.For(node.target, counted.set_lineno(node.lineno), node.body, node.else_, node.test,
                                    node.recursive, lineno=node.lineno), frame)  # fmt: skip

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self._within("environment.joined", lambda: super(BoundedCode, self).visit_Tuple(_tuple(node.nodes), frame))

    def visit_List(self, node: nodes.List, frame: Frame) -> None:
        self._within("environment.bounded", lambda: super(BoundedCode, self).visit_List(node, frame))

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:
        self._within("environment.bounded", lambda: super(BoundedCode, self).visit_Dict(node, frame))

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:
        if node.ctx == "load":
            self._within("environment.bounded", lambda: super(BoundedCode, self).visit_Tuple(node, frame))
        else:
            super().visit_Tuple(node, frame)

    def _within(self, function: str, write: Callable[[], None]) -> None:
        self.write(f"{function}(")
        write()
        self.write(")")


def _tuple(items: list[nodes.Expr]) -> nodes.Tuple:
    return nodes.Tuple(items, "load")


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "**", "%"})
    code_generator_class = BoundedCode

    def __init__(self) -> None:
        super().__init__(undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True)
        self._spent = _RenderingUsage()
        self.globals = {"range": self.globals["range"]}
        del self.filters["random"]  # the same document must always give the same question
        del self.filters["urlize"]  # makes links for pages, in time that grows faster than the text
        self.filters["striptags"] = striptags
        self.filters = {name: self._bounded_filter(name, each) for name, each in self.filters.items()}

    def begin(self) -> None:
        """A rendering starts in this thread."""
        spent = self._spent
        spent.steps, spent.clock_at, spent.began_s = 0, _CLOCK_EVERY, None

    def spend(self, steps: int) -> None:
        spent = self._spent
        spent.steps += steps
        if spent.steps > MOST_STEPS:
            raise _too_large(f"it takes more than {MOST_STEPS:,} steps")
        if spent.steps >= spent.clock_at:
            spent.clock_at = spent.steps + _CLOCK_EVERY
            now_s = time.thread_time()
            if spent.began_s is None:  # few renderings get this far, and asking the clock takes as long as one
                spent.began_s = now_s
            if now_s - spent.began_s > MOST_CPU_S:
                raise _too_large(f"it computes for more than {MOST_CPU_S:g} s")

    def bounded(self, value: Any) -> Any:
        self.spend(_weight(value))
        return value

    def counted(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            self.spend(1)
            yield item

    def joined(self, parts: tuple[Any, ...]) -> str:
        self.bounded(parts)
        texts = [str(part) for part in parts]
        fits(sum(map(len, texts)))
        return "".join(texts)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        self.spend(1)
        match operator:
            case "*":
                _check_product(left, right)
            case "**":
                if isinstance(left, int) and isinstance(right, int) and abs(left) > 1:
                    _check_bits(left.bit_length() * max(right, 0))
            case "+" if isinstance(left, _SIZED) and isinstance(right, _SIZED):
                _check_length(left, len(left) + len(right))
            case "%" if isinstance(left, str | bytes):
                self.bounded(right)
                check_percent(left, right)
        return self.bounded(super().call_binop(context, operator, left, right))

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        __self.spend(1)
        owner = getattr(__obj, "__self__", None)
        if isinstance(__obj, types.BuiltinMethodType) and isinstance(owner, _BUILTIN):
            __self.bounded(owner)
            args = __self._checked_method(owner, __obj.__name__, args, kwargs)
        return super().call(__context, __obj, *args, **kwargs)

    def _checked_method(
        self, owner: Any, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Any, ...]:
        """The arguments, after a look at what would come of them."""
        if not isinstance(owner, str):
            if not any(isinstance(owner, kind) and name in names for kind, names in _ALLOWED.items()):
                raise SecurityError(f"'{name}' may not be called in a prompt")
            return args
        if name in _REFUSED[str]:
            raise SecurityError(f"'{name}' may not be called in a prompt")
        if name in _STRETCHING:
            _check_width(args[0] if args else None)
        elif name == "expandtabs":
            size = args[0] if args else kwargs.get("tabsize", 8)
            _check_width(size)
            fits(len(owner) + owner.count("\t") * size)
        elif name == "replace" and len(args) >= 2:
            _check_replaced(owner, args[0], args[1])
        elif name == "join" and args:
            items = list(self.counted(args[0]))
            fits(sum(len(item) for item in items if isinstance(item, str)) + len(owner) * len(items))
            return (items,)
        return args

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        if super().wrap_str_format(value) is None:
            return None
        text: str = value.__self__

        def formatted(*args: Any, **kwargs: Any) -> str:
            if value.__name__ == "format_map":
                return str(_BoundedFormatter(self).vformat(text, (), args[0]))
            return str(_BoundedFormatter(self).vformat(text, args, kwargs))

        return formatted

    def _bounded_filter(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        passed = 1 if hasattr(function, "jinja_pass_arg") else 0
        check = _FILTERS.get(name)

        def bounded(*args: Any, **kwargs: Any) -> Any:
            value, *others = args[passed:]
            self.spend(1)
            for each in (value, *others, *kwargs.values()):
                self.bounded(each)
            if name == "join":
                args = (*args[:passed], list(self.counted(value)), *others)
                value = args[passed]
            if check is not None:
                check(value, *others, **kwargs)
            return self.bounded(function(*args, **kwargs))

        if passed:
            bounded.jinja_pass_arg = function.jinja_pass_arg  # type: ignore[attr-defined]
        return bounded


class _BoundedFormatter(SandboxedFormatter):
    """`str.format`: neither a field nor all of them together may be large."""

    def __init__(self, environment: BoundedEnvironment) -> None:
        super().__init__(environment)
        self._bounded, self._characters = environment, 0

    def format_field(self, value: Any, format_spec: str) -> str:
        self._bounded.bounded(value)
        if _WIDTH.search(format_spec):
            raise _too_large(f"a field of the width '{format_spec[:40]}'")
        made: str = Formatter.format_field(self, value, format_spec)
        self._characters += len(made)
        fits(self._characters)
        return made


# Checks of what an operation would make


def _check_bits(bits: int) -> None:
    if bits > MOST_BITS:
        raise _too_large(f"this would be a number of {plural(bits, 'bit')}")


def _check_length(value: Sized, length: int) -> None:
    if isinstance(value, str | bytes):
        fits(length)
    elif length > MOST_ITEMS:
        raise _too_large(f"this would have {plural(length, 'item')}, the limit is {MOST_ITEMS:,}")


def _check_product(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())
    for value, times in ((left, right), (right, left)):
        if isinstance(value, _SIZED) and isinstance(times, int):
            _check_length(value, len(value) * max(times, 0))


def _check_width(width: Any) -> None:
    if isinstance(width, int) and abs(width) > _WIDEST:
        raise _too_large(f"a field of the width {width:,}")


def check_percent(text: str | bytes, values: Any) -> None:
    shown = text if isinstance(text, str) else text.decode("latin-1")
    for field in re.findall(r"%[^a-zA-Z%]*", re.sub(r"\([^)]*\)", "", shown)):
        if _WIDTH.search(field):
            raise _too_large(f"a field of the width '{field[:40]}'")
    given = values.values() if isinstance(values, Mapping) else values if isinstance(values, tuple) else (values,)
    fits(len(text) + text.count("%" if isinstance(text, str) else b"%") * max((len(str(v)) for v in given), default=0))  # type: ignore[arg-type]


def _check_replaced(text: str, old: Any, new: Any) -> None:
    if isinstance(old, str) and isinstance(new, str):
        fits(len(text) + (text.count(old) if old else len(text) + 1) * max(len(new) - len(old), 0))


def _center(_value: Any, width: Any = 80) -> None:
    _check_width(width)


def _indent(value: Any, width: Any = 4, *_others: Any, **_named: Any) -> None:
    _check_width(width)
    wide = len(width) if isinstance(width, str) else width if isinstance(width, int) else 0
    fits(len(str(value)) + (str(value).count("\n") + 1) * wide)


def _wordwrap(value: Any, width: Any = 79, break_long_words: bool = True, wrapstring: Any = None, *_: Any,
              **_named: Any) -> None:  # fmt: skip
    text = str(value)
    pieces = len(text) if not isinstance(width, int) or width < 1 else len(text) // width + text.count(" ")
    fits(len(text) + pieces * len(wrapstring or "\n"))


def _pieces(_value: Any, count: Any, *_: Any, **_named: Any) -> None:
    if isinstance(count, int) and count > MOST_ITEMS // 10:
        raise _too_large(f"{plural(count, 'piece')}")


def _round(_value: Any, precision: Any = 0, *_: Any, **_named: Any) -> None:
    if isinstance(precision, int) and abs(precision) > 100:
        raise _too_large(f"{plural(precision, 'digit')}")


def _join(items: list[Any], d: Any = "", *_: Any, **_named: Any) -> None:
    fits(sum(len(str(item)) for item in items) + len(str(d)) * len(items))


def _replace(value: Any, old: Any, new: Any, *_: Any, **_named: Any) -> None:
    _check_replaced(str(value), old, new)


def _format(value: Any, *args: Any, **kwargs: Any) -> None:
    check_percent(str(value), kwargs or args)


def _tojson(_value: Any, indent: Any = None) -> None:
    if isinstance(indent, int) and indent > 100:
        raise _too_large(f"an indent of {indent:,}")


_FILTERS: Mapping[str, Callable[..., None]] = {
    "batch": _pieces, "center": _center, "format": _format, "indent": _indent, "join": _join, "replace": _replace,
    "round": _round, "slice": _pieces, "tojson": _tojson, "wordwrap": _wordwrap,
}  # fmt: skip


def striptags(value: Any) -> str:
    """As Jinja's, in one pass: that one copies the whole text for each tag."""
    return unescape(" ".join(_without(_without(str(value), "<!--", "-->"), "<", ">").split()))


def _without(text: str, opening: str, closing: str) -> str:
    kept, position = [], 0
    while (start := text.find(opening, position)) >= 0 and (end := text.find(closing, start)) >= 0:
        kept.append(text[position:start])
        position = end + len(closing)
    return "".join([*kept, text[position:]])
