"""Values that conform to a JSON schema, filled from a document. What is optional and not found is null or left out.

Not read: `not`, `if`, `patternProperties`, `dependentRequired`, `contains`, `propertyNames`.
"""

import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ai_assets.rehearsal.chat import Schema, compact_json
from ai_assets.rehearsal.judging import rating, reason
from ai_assets.rehearsal.labels import classify
from ai_assets.rehearsal.reading import ExtractedValue, Reading
from ai_assets.rehearsal.scalars import integer, names_in, number, string
from ai_assets.stages.classify.builtin import Classification

MAX_DEPTH = 6
"""From here on nothing is made that is not required."""
DEEPEST = 40
MOST_ITEMS = 3
_PLAIN_TEXT = frozenset({"type", "description", "title", "minLength"})
_REASONS = frozenset({"reason", "rationale", "explanation", "why"})
_RATINGS = frozenset({"score", "rating", "verdict", "grade"})
_EVIDENCE = ("evidence", "quote", "quotes")
_RUNNER_UP = re.compile(r"runner.?up|second|alternative", re.IGNORECASE)
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")


@dataclass(frozen=True)
class GeneratedValue:
    """A value, whether the document had it, and in which words."""

    value: Any
    found: bool = True
    raw: str = ""


@dataclass(frozen=True)
class Spot:
    """Where a label stands in the text of an answer, and how sure it is."""

    start: int
    end: int
    confidence: float
    runner_up: str
    runner_up_confidence: float


@dataclass(frozen=True)
class SchemaValue:
    """A value for a schema, as text too."""

    value: Any
    labels: tuple[tuple[str, Classification], ...] = ()
    """Property and what the classifier said."""
    words: str | None = None
    """Instead of the value, where an answer shall be no JSON."""

    @functools.cached_property
    def text(self) -> str:
        if self.words is not None:
            return self.words
        return compact_json(self.value)

    def label_spots(self) -> list[Spot]:
        found = []
        for name, said in self.labels:
            before = f"{json.dumps(name, ensure_ascii=False)}:" if name else ""
            value = json.dumps(said.label, ensure_ascii=False)
            start = self.text.find(before + value)
            if start >= 0:
                start += len(before) + 1
                end = start + len(value) - 2
                found.append(Spot(start, end, said.confidence, said.runner_up or "", said.runner_up_confidence or 0.0))
        return found


def fill(schema: Schema, reading: Reading) -> SchemaValue:
    filler = _Filler(schema, reading)
    value = filler.make(schema, "", 0).value
    return SchemaValue(value, tuple(filler.labels))


def violate(filled: SchemaValue, schema: Schema) -> SchemaValue:
    """The same with a mistake that the schema forbids: no such label, a property missing, a wrong type."""
    from jsonschema import Draft202012Validator

    validator = Draft202012Validator(dict(schema))
    value = filled.value
    wrong: list[Any] = []
    if isinstance(value, dict):
        wrong += [{**value, name: f"no-such-{said.label}"} for name, said in filled.labels if name in value]
        wrong += [{key: kept for key, kept in value.items() if key != name} for name in schema.get("required", ())]
    wrong += ["violation", ["violation"], None]
    found = next((each for each in wrong if not validator.is_valid(each)), None)
    if found is None and validator.is_valid(None):
        return SchemaValue(None, words="This is no JSON.")
    return SchemaValue(found)


@functools.lru_cache(maxsize=4096)
def words_of(name: str) -> tuple[str, ...]:
    """'invoiceNumber' and 'invoice_number' as words."""
    return tuple([word.lower() for word in _WORD.findall(name)])


@dataclass
class _Filler:
    root: Schema
    reading: Reading
    labels: list[tuple[str, Classification]] = field(default_factory=list)
    _open: list[str] = field(default_factory=list)
    """References being followed, the innermost last."""

    def make(self, schema: Any, name: str, depth: int) -> GeneratedValue:
        """A value for a part of the schema. A part within itself is made as small as it may be."""
        if not isinstance(schema, Mapping):
            return GeneratedValue(self.reading.sentence_with(""), found=False)
        if depth > DEEPEST:
            return GeneratedValue(None, found=False)
        reference = schema.get("$ref")
        if reference is None:
            return self._make(self._resolved(schema), name, depth)
        if reference in self._open:
            depth = max(depth, MAX_DEPTH)
        self._open.append(reference)
        made = self._make(self._resolved(schema), name, depth)
        self._open.pop()
        return made

    def _make(self, schema: Schema, name: str, depth: int) -> GeneratedValue:
        if "const" in schema:
            return GeneratedValue(schema["const"])
        if "enum" in schema:
            return self._enum(schema, name)
        for keyword in ("anyOf", "oneOf"):
            if schema.get(keyword):
                return self._one_of(schema, keyword, name, depth)
        kinds = _types(schema)
        real = [kind for kind in kinds if kind != "null"]
        if not real:
            return GeneratedValue(None, found=False)
        made = self._typed(real[0], schema, name, depth)
        return GeneratedValue(None, found=False) if "null" in kinds and not made.found else made

    def _typed(self, kind: str, schema: Schema, name: str, depth: int) -> GeneratedValue:
        match kind:
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, name, depth)
            case "string":
                return self._reason(schema, name) or _made(string(schema, words_of(name), self.reading))
            case "number":
                return self._confidence(schema, name) or _made(number(schema, words_of(name), self.reading))
            case "integer":
                return self._confidence(schema, name) or _made(integer(schema, words_of(name), self.reading))
            case _:
                said = self.reading.labelled(words_of(name))
                yes = said is not None and said[:4].lower().startswith(("yes", "true", "ja", "1"))
                return GeneratedValue(yes, found=said is not None)

    def _resolved(self, schema: Schema, hops: int = 0) -> Schema:
        """With `$ref` followed and `allOf` joined."""
        if hops > 20:
            return {}
        if isinstance(schema.get("$ref"), str):
            target: Any = self.root
            for part in schema["$ref"].removeprefix("#").strip("/").split("/"):
                if part:
                    key = part.replace("~1", "/").replace("~0", "~")
                    target = target.get(key, {}) if isinstance(target, Mapping) else {}
            beside = {key: value for key, value in schema.items() if key != "$ref"}
            return self._resolved({**target, **beside} if isinstance(target, Mapping) else beside, hops + 1)
        if schema.get("allOf"):
            joined: dict[str, Any] = {key: value for key, value in schema.items() if key != "allOf"}
            for part in schema["allOf"]:
                joined = _join(joined, self._resolved(part, hops + 1))
            return self._resolved(joined, hops + 1)
        return schema

    def _enum(self, schema: Schema, name: str) -> GeneratedValue:
        values = list(schema["enum"])
        if self.reading.judged and set(words_of(name)) & _RATINGS:
            return GeneratedValue(rating(self.reading, values))
        kinds = _types(schema) if "type" in schema else None
        if kinds is not None:
            values = [value for value in values if any(_is(value, kind) for kind in kinds)] or values
        names = tuple(dict.fromkeys(value for value in values if isinstance(value, str) and value))
        if not names:
            spoken = [value for value in values if value is not None and _shown(value) in self.reading.text]
            if spoken:
                return GeneratedValue(spoken[0], raw=_shown(spoken[0]))
            return GeneratedValue(None if None in values else values[0], found=False)
        said = classify(self.reading, names, str(schema.get("description", "")))
        if _RUNNER_UP.search(name):
            return GeneratedValue(
                said.runner_up if said.runner_up is not None else None if None in values else said.label
            )
        self.labels.append((name, said))
        return GeneratedValue(said.label, raw=said.evidence or "")

    def _reason(self, schema: Schema, name: str) -> GeneratedValue | None:
        """Why the label before it was chosen, or the rating given, in a sentence."""
        if self.reading.judged and _REASONS & set(words_of(name)):
            return GeneratedValue(reason(self.reading))
        if not self.labels or self.reading.quick or not _REASONS & set(words_of(name)):
            return None
        said = self.labels[-1][1]
        rather = f' rather than "{said.runner_up}"' if said.runner_up else ""
        text = f'It reads like "{said.label}"{rather}.'
        return _made(string(schema, [], self.reading, ExtractedValue(text, "")))

    def _confidence(self, schema: Schema, name: str) -> GeneratedValue | None:
        """A number named confidence is the classifier's, of the label before it."""
        if "confidence" not in name.lower():
            return None
        said = self.labels[-1][1] if self.labels else None
        value = 0.5 if said is None else said.confidence
        if said is not None and _RUNNER_UP.search(name):
            value = said.runner_up_confidence or 0.0
        percent = _types(schema)[0] == "integer" or schema.get("maximum", 1) >= 100
        made = ExtractedValue(value * 100 if percent else round(value, 6), "")
        return _made((integer if _types(schema)[0] == "integer" else number)(schema, [], self.reading, made))

    def _one_of(self, schema: Schema, keyword: str, name: str, depth: int) -> GeneratedValue:
        beside = {key: value for key, value in schema.items() if key != keyword}
        options = [_join(beside, option) for option in schema[keyword] if isinstance(option, Mapping)]
        kinds = {id(option): _types(self._resolved(option)) for option in options}
        nullable = any(kinds[id(option)] == ["null"] or option.get("const", 0) is None for option in options)
        real = [option for option in options if kinds[id(option)] != ["null"]] or options
        if depth > MAX_DEPTH:
            if nullable:
                return GeneratedValue(None, found=False)
            real.sort(key=lambda option: kinds[id(option)][0] in ("object", "array"))
        before = len(self.labels)
        fallback: GeneratedValue | None = None
        for option in real:
            made = self.make(option, name, depth + 1)
            if keyword == "oneOf" and not self._valid(schema, made.value):
                del self.labels[before:]
                continue
            if made.found:
                return made
            fallback = fallback or made
            del self.labels[before:]
        if nullable or fallback is None:
            return GeneratedValue(None, found=False)
        return fallback

    def _valid(self, schema: Schema, value: Any) -> bool:
        from jsonschema import Draft202012Validator

        return bool(Draft202012Validator(self.root).evolve(schema=schema).is_valid(value))

    def _object(self, schema: Schema, depth: int) -> GeneratedValue:
        properties: Mapping[str, Any] = schema.get("properties", {})
        required: Sequence[str] = schema.get("required", ())
        others = schema.get("additionalProperties", True)
        made: dict[str, GeneratedValue] = {}
        # Labels before their confidence, and everything before the evidence for it.
        for key in sorted([*properties, *(key for key in required if key not in properties)], key=_filled_last):
            if key not in required and depth >= MAX_DEPTH:
                continue
            declared = properties.get(key, others if isinstance(others, Mapping) else {})
            made[key] = self._evidence(declared, key, made) or self.make(declared, key, depth + 1)
        order = [*properties, *(key for key in required if key not in properties)]
        kept = {key: made[key].value for key in order if key in required or (key in made and made[key].found)}
        for number_ in range(int(schema.get("minProperties", 0)) - len(kept)):
            spare = next((key for key in properties if key not in kept and key in made), f"key_{number_ + 1}")
            kept[spare] = made[spare].value if spare in made else self.make(others, spare, depth + 1).value
        optional = [key for key in kept if key not in required]
        for key in optional[: max(len(kept) - schema.get("maxProperties", len(kept)), 0)]:
            del kept[key]
        found = any(made[key].found for key in kept if key in made)
        return GeneratedValue(kept, found=found, raw=next((each.raw for each in made.values() if each.raw), ""))

    def _evidence(self, declared: Any, key: str, made: Mapping[str, GeneratedValue]) -> GeneratedValue | None:
        """A sentence that shows what was found for the property beside it; None for properties that are no evidence."""
        if not _is_evidence(key) or not isinstance(declared, Mapping):
            return None
        declared = self._resolved(declared)
        about = tuple([word for word in words_of(key) if word not in _EVIDENCE])
        named = next((each for other, each in made.items() if about and words_of(other) == about), None)
        said = named or next((each for each in made.values() if each.raw), None)
        by_label = said is not None and any(said.raw == label.evidence for _, label in self.labels)
        if said is not None and by_label:
            sentence = said.raw
        else:
            most = "" if named else self.reading.sentence_of_most([each.raw for each in made.values() if each.raw])
            sentence = most or self.reading.sentence_with(said.raw if said else "")
        found = said is not None and said.found
        return self._told(declared, sentence, found=found)

    def _told(self, schema: Schema, sentence: str, *, found: bool) -> GeneratedValue | None:
        """The sentence in the form that the schema wants: text, a list of texts, or null."""
        options = schema.get("anyOf") or schema.get("oneOf")
        if options:
            made = next((self._told(self._resolved(each), sentence, found=True) for each in options), None)
            return made if found and made is not None and self._valid(schema, made.value) else None
        if "enum" in schema or "const" in schema:
            return None
        kinds = _types(schema)
        if "null" in kinds and not found:
            return GeneratedValue(None, found=False)
        if "string" in kinds:
            made = _made(string(schema, [], self.reading, ExtractedValue(sentence, sentence)))
            return GeneratedValue(made.value, found=found)
        items = self._resolved(schema.get("items") or {})
        if "array" in kinds and items.get("type") == "string" and "enum" not in items and "const" not in items:
            sentences = [sentence, *(each for each in self.reading.sentences if each != sentence)]
            least, most = int(schema.get("minItems", 0)), int(schema.get("maxItems", MOST_ITEMS))
            if len(sentences) >= least:
                chosen = sentences[: min(max(least, 1), most)] if sentence or least else []
                return GeneratedValue(
                    [string(items, [], self.reading, ExtractedValue(each, each))[0] for each in chosen], found=found
                )
        return None

    def _array(self, schema: Schema, name: str, depth: int) -> GeneratedValue:
        least, most = int(schema.get("minItems", 0)), int(schema.get("maxItems", MOST_ITEMS))
        first: Sequence[Any] = schema.get("prefixItems", ())
        items = schema.get("items", {})
        values = [self.make(each, name, depth + 1).value for each in first][: max(most, 0)]
        if items is False or len(values) >= most:
            return GeneratedValue(values, found=bool(values))
        resolved = self._resolved(items) if isinstance(items, Mapping) else {}
        if _is_evidence(name) and not values:
            told = self._told(schema, self.reading.sentence_with(""), found=True)
            if told is not None:
                return told
        if depth >= MAX_DEPTH and least <= len(values):
            return GeneratedValue(values, found=False)
        if not values and least <= 1 and resolved.keys() <= _PLAIN_TEXT and _types(resolved) == ["string"]:
            names = names_in(words_of(name), self.reading)[:most]
            if names:
                return GeneratedValue(names, raw=names[0])
        before = len(self.labels)
        made = self.make(items, name, depth + 1)
        if made.found and len(values) < max(least, 1):
            values.append(made.value)
        else:
            del self.labels[before:]
        if len(values) < least:
            values += self._more(resolved, values, least - len(values), made, unique=bool(schema.get("uniqueItems")))
        return GeneratedValue(values, found=made.found, raw=made.raw)

    def _more(self, items: Schema, have: Sequence[Any], count: int, made: GeneratedValue, *, unique: bool) -> list[Any]:
        """As many items again as the schema asks for; different ones if they must be."""
        if not unique:
            return [made.value] * count
        candidates: list[Any] = [made.value]
        if "enum" in items:
            candidates += items["enum"]
        kinds = _types(items)
        candidates += [None] if "null" in kinds else []
        candidates += [False, True] if "boolean" in kinds else []
        if "integer" in kinds or "number" in kinds:
            low = items.get("minimum", items.get("exclusiveMinimum", -count - len(have)))
            step = items.get("multipleOf", 1)
            candidates += [(int(low) // step + number_) * step for number_ in range(count + len(have) + 3)]
        if "string" in kinds:
            texts = [*self.reading.sentences, *(f"{number_} {made.value}" for number_ in range(count + len(have) + 1))]
            candidates += [_made(string(items, [], self.reading, ExtractedValue(text, text))).value for text in texts]
        found: list[Any] = []
        for candidate in candidates:
            if len(found) == count:
                break
            is_new = not any(_same(candidate, each) for each in (*have, *found))
            if is_new and self._valid(items, candidate):
                found.append(candidate)
        return found


def _made(result: tuple[Any, ExtractedValue | None]) -> GeneratedValue:
    value, found = result
    return GeneratedValue(value, found=found is not None, raw=found.raw if found else "")


def _types(schema: Schema) -> list[str]:
    """What a value may be, the declared order kept; a schema without a type is read by its keywords."""
    declared = schema.get("type")
    if isinstance(declared, str):
        return [declared]
    if isinstance(declared, list) and declared:
        return [str(kind) for kind in declared]
    if "properties" in schema or "additionalProperties" in schema or "required" in schema:
        return ["object"]
    if "items" in schema or "prefixItems" in schema:
        return ["array"]
    if any(key in schema for key in ("minimum", "maximum", "multipleOf", "exclusiveMinimum", "exclusiveMaximum")):
        return ["number"]
    return ["string"]


def _is(value: Any, kind: str) -> bool:
    match kind:
        case "string":
            return isinstance(value, str)
        case "null":
            return value is None
        case "boolean":
            return isinstance(value, bool)
        case "integer" | "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "array":
            return isinstance(value, list)
        case _:
            return isinstance(value, Mapping)


def _same(one: Any, other: Any) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _join(one: Schema, other: Schema) -> dict[str, Any]:
    """Both schemas at once, as far as plain keywords go."""
    joined = {**one, **other}
    if "properties" in one and "properties" in other:
        joined["properties"] = {**one["properties"], **other["properties"]}
    if "required" in one and "required" in other:
        joined["required"] = list(dict.fromkeys([*one["required"], *other["required"]]))
    return joined


@functools.lru_cache(maxsize=4096)
def _is_evidence(name: str) -> bool:
    return any(word in _EVIDENCE for word in words_of(name))


@functools.lru_cache(maxsize=4096)
def _filled_last(name: str) -> int:
    """Sorting is stable: confidence after what is sure, evidence after what it shows."""
    return 2 if _is_evidence(name) else 1 if "confidence" in name.lower() or _RUNNER_UP.search(name) else 0
