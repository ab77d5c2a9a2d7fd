"""What is wrong with a prompt, found before any document meets it: by reading the template, and by a trial.

Reading finds an unknown variable in a branch that the trial does not take, and untrusted text outside of tags.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, TracebackType

from jinja2 import TemplateError, TemplateSyntaxError, meta, nodes

from ai_assets.base.errors import Gathered
from ai_assets.base.yaml_settings import nearest
from ai_assets.collection.errors import CollectionInvalid
from ai_assets.stages.prompt import TAGS, TEMPLATE, Example, Prompt, PromptFailed, environment

_TAG = re.compile(rf"<(/?)({'|'.join(TAGS)})\s*>", re.IGNORECASE)
_LOOP = ("index", "index0", "revindex", "revindex0", "first", "last", "length", "depth", "depth0")
_TRIAL = {"text": "trial", "number": 0.5, "integer": 1, "truth": True, "texts": ["trial"]}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What is known of a value: its fields, what its items look like, whether it comes from a document."""

    fields: Mapping[str, "Shape"] = field(default_factory=lambda: MappingProxyType({}))
    item: "Shape | None" = None
    untrusted: bool = False

    @property
    def tainted(self) -> bool:
        inner = (*self.fields.values(), *((self.item,) if self.item else ()))
        return self.untrusted or any(shape.tainted for shape in inner)


TRUSTED, UNTRUSTED = Shape(), Shape(untrusted=True)


def check_prompt(prompt: Prompt) -> None:
    """Raises CollectionInvalid with the line of the prompt file: of each section its first mistake."""
    known, gathered = _shapes(prompt), Gathered()
    for role, source in (("system", prompt.system), ("user", prompt.user)):
        gathered.attempt(None, _check_section, prompt, role, source, known)
    gathered.refuse(CollectionInvalid)
    _try(prompt)


def _check_section(prompt: Prompt, role: str, source: str, known: Mapping[str, Shape]) -> None:
    try:
        _Reading(prompt.path, role, dict(known)).read(environment().parse(source))
    except TemplateSyntaxError as error:
        raise CollectionInvalid(prompt.path, error.lineno, f"{error.message}") from error
    except RecursionError as error:
        raise CollectionInvalid(prompt.path, None, "it is nested too deep") from error
    except ValueError as error:  # of Python's own number reader
        raise CollectionInvalid(prompt.path, None, str(error)) from error


def _shapes(prompt: Prompt) -> Mapping[str, Shape]:
    variables = prompt.variables
    stages = {name: Shape(fields=dict.fromkeys(columns, UNTRUSTED)) for name, columns in variables.stages.items()}
    example = Shape(fields={"title": UNTRUSTED, "text": UNTRUSTED, "output": TRUSTED})
    return {
        # The language is ours: two letters that the parser found.
        "document": Shape(fields={"title": UNTRUSTED, "text": UNTRUSTED, "path": UNTRUSTED, "language": TRUSTED}),
        "stages": Shape(fields=stages),
        "examples": Shape(item=example),
        **{name: _shape_of(value) for name, value in variables.given.items()},
    }


def _shape_of(value: object) -> Shape:
    """Of what the kind gives: trusted throughout."""
    if isinstance(value, Mapping):
        return Shape(fields={str(name): _shape_of(inner) for name, inner in value.items()})
    if isinstance(value, list | tuple):
        return Shape(item=_shape_of(value[0]) if value else TRUSTED)
    return TRUSTED


@dataclass
class _Reading:
    """One pass over a template in the order of the file."""

    path: Path
    role: str
    scope: dict[str, Shape]
    inside: str | None = None
    """The tag that is open here."""
    opened_at: int = 0
    """Its line."""

    def read(self, tree: nodes.Template) -> None:
        for node in tree.find_all(nodes.Filter):
            if node.name not in environment().filters:
                raise self._wrong(node.lineno, f"no filter named '{node.name}'{self._near_filter(node.name)}")
        known = sorted(self.scope)
        own = {node.target.name for node in tree.find_all(nodes.Assign) if isinstance(node.target, nodes.Name)}
        for name in sorted(meta.find_undeclared_variables(tree) - own - set(known) - set(environment().globals)):
            line = next(node.lineno for node in tree.find_all(nodes.Name) if node.name == name)
            raise self._wrong(line, f"unknown variable '{name}'{nearest(name, known)}")
        self._statements(tree.body)
        if self.inside:
            raise self._wrong(self.opened_at, f"<{self.inside}> is not closed")

    def _near_filter(self, name: str) -> str:
        return nearest(name, list(environment().filters), "see the list of Jinja's built-in filters")

    def _statements(self, body: list[nodes.Node]) -> None:
        for node in body:
            match node:
                case nodes.Output():
                    self._output(node)
                case nodes.If():
                    self._expression(node.test)
                    elifs: list[list[nodes.Node]] = [[inner] for inner in node.elif_]
                    for branch in (node.body, *elifs, node.else_):
                        self._branch(node.lineno, branch)
                case nodes.For():
                    self._loop(node)
                case nodes.Assign(target=nodes.Name(name=name)):
                    self._expression(node.node)
                    shape = self._shape(node.node) or Shape(untrusted=self._tainted(node.node))
                    before = self.scope.get(name)
                    # A name set in two branches is what the worse of the two made of it.
                    self.scope[name] = UNTRUSTED if before and before.tainted else shape
                case _:
                    word = re.sub(r"(?<!^)(?=[A-Z])", " ", type(node).__name__).lower()
                    raise self._wrong(
                        node.lineno, f"a prompt is made of text, '{{{{ }}}}', if, for and set; this is: {word}"
                    )

    def _branch(self, line: int, body: list[nodes.Node]) -> None:
        before = self.inside
        self._statements(body)
        if self.inside != before:
            tag = self.inside or before
            raise self._wrong(line, f"<{tag}> must be opened and closed on the same side of this if or for")

    def _loop(self, node: nodes.For) -> None:
        if node.recursive:
            raise self._wrong(node.lineno, "a for of a prompt cannot be recursive")
        self._expression(node.iter)
        listed = self._shape(node.iter)
        item = (listed.item if listed else None) or Shape(untrusted=self._tainted(node.iter))
        outer = dict(self.scope)
        self.scope["loop"] = Shape(fields=dict.fromkeys(_LOOP, TRUSTED))
        for name in node.target.find_all(nodes.Name) if not isinstance(node.target, nodes.Name) else [node.target]:
            self.scope[name.name] = item
        if node.test:
            self._expression(node.test)
        self._branch(node.lineno, node.body)
        self._branch(node.lineno, node.else_)
        self.scope = outer

    def _output(self, node: nodes.Output) -> None:
        for part in node.nodes:
            if isinstance(part, nodes.TemplateData):
                self._tags(part)
                continue
            self._expression(part)
            shape = self._shape(part)
            if shape is not None and shape.fields:
                raise self._wrong(part.lineno, f"this is not text but has fields: {', '.join(shape.fields)}")
            if not self._tainted(part):
                continue
            if self.role == "system":
                raise self._wrong(part.lineno, "what comes from a document belongs in '## user', between tags")
            if self.inside is None:
                raise self._wrong(
                    part.lineno, "what comes from a document must stand between <document> and </document> "
                    "(or <data> and </data>), so that the model can tell it from your words",
                )  # fmt: skip

    def _tags(self, part: nodes.TemplateData) -> None:
        for found in _TAG.finditer(part.data):
            line = part.lineno + part.data[: found.start()].count("\n")
            closes, tag = bool(found[1]), found[2].lower()
            if closes and self.inside != tag:
                raise self._wrong(line, f"</{tag}> closes nothing")
            if not closes and self.inside:
                raise self._wrong(line, f"<{tag}> stands inside of <{self.inside}>")
            self.inside, self.opened_at = (None, 0) if closes else (tag, line)

    def _expression(self, expression: nodes.Node) -> None:
        """Every field that is named exists, and none is private."""
        for node in (expression, *expression.find_all((nodes.Getattr, nodes.Getitem))):
            if (name := _field(node)) is None:
                continue
            if name.startswith("_"):
                raise self._wrong(node.lineno, f"access to '{name}' is not allowed in a prompt")
            base = self._shape(node.node)  # type: ignore[attr-defined]
            if base is not None and base.fields and name not in base.fields:
                of = _written(node.node)  # type: ignore[attr-defined]
                raise self._wrong(node.lineno, f"{of} has no '{name}'{nearest(name, list(base.fields))}")
            if base is not None and base.fields == {} and of_stages(node):
                raise self._wrong(node.lineno, f"stages has no '{name}'; name the stage in 'after' or 'when'")

    def _shape(self, node: nodes.Node) -> Shape | None:
        """None where nothing is known, as of what a filter returns."""
        if isinstance(node, nodes.Name):
            return self.scope.get(node.name)
        if (name := _field(node)) is not None:
            base = self._shape(node.node)  # type: ignore[attr-defined]
            return base.fields.get(name) if base else None
        if isinstance(node, nodes.Getitem):
            base = self._shape(node.node)
            return base.item if base else None
        return None

    def _tainted(self, node: nodes.Node) -> bool:
        """Whether text of a document can come out of this expression."""
        if (shape := self._shape(node)) is not None:
            return shape.tainted
        match node:
            case nodes.Compare() | nodes.Not() | nodes.Test():
                return False
            case nodes.CondExpr():
                sides = (node.expr1, *((node.expr2,) if node.expr2 else ()))
                return any(self._tainted(side) for side in sides)
        return any(self._tainted(child) for child in node.iter_child_nodes())

    def _wrong(self, line: int, problem: str) -> CollectionInvalid:
        return CollectionInvalid(self.path, line, problem)


def of_stages(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Getattr | nodes.Getitem) and _written(node.node) == "stages"


def _field(node: nodes.Node) -> str | None:
    if isinstance(node, nodes.Getattr):
        return node.attr
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
        return node.arg.value
    return None


def _written(node: nodes.Node) -> str:
    if isinstance(node, nodes.Name):
        return node.name
    name = _field(node)
    return f"{_written(node.node)}.{name}" if name is not None else "it"  # type: ignore[attr-defined]


def _try(prompt: Prompt) -> None:
    """Render with made-up values: what only shows when it runs, such as the sandbox, a filter or a wrong type."""
    document = {"title": "trial", "text": "trial", "path": "trial.txt", "language": "en"}
    stages = {
        name: {column: _TRIAL[kind] for column, kind in columns.items()}
        for name, columns in prompt.variables.stages.items()
    }
    try:
        prompt.render(document, stages, [Example(title="trial", text="trial", output="trial")])
    except PromptFailed as error:
        cause = error.__cause__
        said = cause.message if isinstance(cause, TemplateError) and cause.message else str(cause)
        lines = list(_lines(cause.__traceback__)) if cause else []
        raise CollectionInvalid(prompt.path, lines[-1] if lines else None, said) from error


def _lines(trace: TracebackType | None) -> Iterator[int]:
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == TEMPLATE:
            yield trace.tb_lineno
        trace = trace.tb_next
