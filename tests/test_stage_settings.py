# ruff: noqa: E501  a wrong file is a row, and a row is a line
"""Claims about stages on routes as they are declared: what is refused, and what makes which asset stale."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from conftest import LABELS, REPOSITORY, Project

from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.loading import Collection, load_collection
from ai_assets.inference.errors import InferenceInvalid

INFERENCE = """\
endpoints:
  small: {base_url: rehearsal, model: mini, free: true}
  large: {base_url: rehearsal, model: maxi, free: true}
routes:
  default: {endpoints: [small]}
  careful: {endpoints: [small, large]}
"""
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"amount": {"type": "number"}}}
PROMPT = "---\nversion: 1\nauthor: ann\n---\n## user\n<document>{{ document.text }}</document>\n"
KIND: dict[str, Any] = {"name": "kind", "kind": "classify", "route": "default", "labels": LABELS}
FACTS: dict[str, Any] = {"name": "facts", "kind": "extract", "schema": SCHEMA}
BRIEF: dict[str, Any] = {"name": "brief", "kind": "summarise", "max_sentences": 2}
REPLY: dict[str, Any] = {"name": "reply", "kind": "generate", "after": ["facts"], "when": {"kind": ["invoice"]}}
STAGES = [KIND, FACTS, BRIEF, REPLY]


def declare(project: Project, stages: list[dict[str, Any]] | None = None, **attributes: Any) -> Collection:
    folder = project.root / "collections" / "notes"
    for name in ("prompts", "golden"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for path, text in ((project.root / "inference.yaml", INFERENCE), (folder / "prompts/own.md", PROMPT)):
        if not path.exists():
            path.write_text(text)
    golden = [f'{{"document": "2026-10-05/{n}.txt", "label": "invoice"}}\n' for n in range(3)]
    (folder / "golden/labels.jsonl").write_text("".join(golden))
    return project.declare(stages=STAGES if stages is None else stages, **attributes)


@dataclass(frozen=True, kw_only=True)
class Case:
    id: str
    stages: list[dict[str, Any]]
    says: str
    """The end of the message, from the place on."""
    golden: dict[str, Any] | None = None


def case(
    id_: str, stage: dict[str, Any], says: str, *others: dict[str, Any], golden: dict[str, Any] | None = None
) -> Case:
    return Case(id=id_, stages=[*others, stage], says=says, golden=golden)


LABELLED = {"labels": "golden/labels.jsonl"}
WRONG = [
    case("route and backend", {**KIND, "backend": "builtin"}, "stages.0.backend: a stage has a 'backend' or a 'route', not both"),
    case("prompt without route", {**KIND, "route": None, "prompt": "prompts/own.md"}, "stages.0.prompt: 'prompt' has no meaning without a 'route': the built-in classifier has no prompt"),
    case("unknown route", {**KIND, "route": "carefull"}, "stages.0.route: unknown route or endpoint 'carefull'; did you mean 'careful'?"),
    case("no prompt file", {**BRIEF, "prompt": "prompts/brief.md"}, "collections/notes/prompts/brief.md does not exist"),
    case("no schema", {"name": "facts", "kind": "extract"}, "stages.0.schema: is missing"),
    case("schema of a list", {**FACTS, "schema": {"type": "array"}}, "stages.0.schema.type: the schema of an answer has 'type: object' at its top"),
    case("slip in a schema", {**FACTS, "schema": {**SCHEMA, "requird": []}}, "stages.0.schema.requird: unknown keyword 'requird'; did you mean 'required'?"),
    case("no schema file", {**FACTS, "schema": "schemas/a.json"}, "collections/notes/schemas/a.json does not exist"),
    case("key of another kind", {**BRIEF, "labels": LABELS}, "stages.0: unknown key 'labels'; known here: after, compute, due, hold, kind, max_input_characters, max_output_tokens, max_sentences, max_words, name, on_ambiguous, priority, prompt, reuse_for, route, seed, temperature, tier, timeout_s, timezone, tries, when, windows, within"),
    case("slip in a key", {**BRIEF, "max_sentence": 2}, "stages.0: unknown key 'max_sentence'; did you mean 'max_sentences'?"),
    case("span of time", {**BRIEF, "reuse_for": "30 days"}, "stages.0.reuse_for: '30 days' is no span of time such as 30d, 12h or 90m"),
    case("temperature", {**BRIEF, "temperature": 3}, "stages.0.temperature: should be less than or equal to 2; found 3"),
    case("after no stage", {**BRIEF, "after": ["kid"]}, "stages.1.after.0: stage 'brief' depends on unknown stage 'kid'; did you mean 'kind'?", KIND),
    case("when no labels", {**BRIEF, "when": {"facts": ["x"]}}, "stages.1.when.facts: stage 'brief' waits for 'facts': it gives no labels (extract); name one of its columns, or use 'after'", FACTS),
    case("circle", {**BRIEF, "after": ["facts"]}, "stages.0.after: the stages depend on each other in a circle: facts -> brief -> facts", {**FACTS, "after": ["brief"]}),
    case("no kind", {"name": "a"}, "stages.0.kind: is missing"),
    case("example nobody labelled", {**KIND, "examples": ["2026-10-05/9.txt"]}, "stages.0.examples.0: no golden label for document '2026-10-05/9.txt'; did you mean '2026-10-05/2.txt'?", golden=LABELLED),
    case("example twice", {**KIND, "examples": ["2026-10-05/1.txt"] * 2}, "stages.0.examples.1: '2026-10-05/1.txt' is here already", golden=LABELLED),
    case("example of another stage", {**KIND, "name": "b", "examples": ["2026-10-05/1.txt"]}, "stages.1.examples: examples are golden labels of this stage, and those of this collection are for 'kind'", KIND, golden={**LABELLED, "labels_stage": "kind"}),
    case("examples without golden labels", {**KIND, "examples": ["2026-10-05/1.txt"]}, "stages.0.examples: examples are golden labels of this stage, and there are none"),
    case("nothing left to judge", {**KIND, "examples": [f"2026-10-05/{n}.txt" for n in range(3)]}, "stages.0.examples: all golden labels are used as examples, and none is left to judge with", golden=LABELLED),
    case("golden labels of a text", BRIEF, "golden.labels: golden labels are declared, but no stage that assigns labels", golden=LABELLED),
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.id)
def test_a_wrong_stage_is_refused_with_its_place(project: Project, wrong: Case) -> None:
    with pytest.raises(CollectionInvalid) as refused:
        declare(project, wrong.stages, **({"golden": wrong.golden} if wrong.golden else {}))
    said = str(refused.value)
    if wrong.id == "temperature":
        assert "stages.0.temperature: should be at most 2 (found 3)" in said
    else:
        assert said.endswith(wrong.says), said
    assert "defs.yaml:" in said


def test_a_wrong_prompt_is_told_with_its_own_line(project: Project) -> None:
    declare(project)
    (project.root / "collections/notes/prompts/own.md").write_text(PROMPT.replace("document.text", "document.txt"))
    with pytest.raises(CollectionInvalid, match=r"prompts/own.md:6: document has no 'txt'; did you mean 'text'\?"):
        declare(project, [{**BRIEF, "prompt": "prompts/own.md"}])


def test_a_prompt_may_use_only_stages_that_come_before(project: Project) -> None:
    declare(project)
    text = PROMPT + "<data>{{ stages.kind.label }}</data>"
    (project.root / "collections/notes/prompts/own.md").write_text(text)
    with pytest.raises(CollectionInvalid, match=r"own.md:7: stages has no 'kind'; name the stage in 'after' or 'when'"):
        declare(project, [KIND, {**BRIEF, "prompt": "prompts/own.md"}])
    declare(project, [KIND, {**BRIEF, "prompt": "prompts/own.md", "after": ["kind"]}])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param("{", r"a.json:1: not valid JSON", id="not JSON"),
        pytest.param("[]", r"a.json: should be an object", id="a list"),
        pytest.param('{"type": "object", "propertys": {}}', r"a.json: propertys: unknown keyword", id="slip"),
        pytest.param("[" * 100_000, r"a.json: it is nested too deep", id="deep"),
    ],
)
def test_a_wrong_schema_file_is_refused(project: Project, content: str, says: str) -> None:
    declare(project)
    (project.root / "collections/notes/a.json").write_text(content)
    with pytest.raises(CollectionInvalid, match=says):
        declare(project, [{**FACTS, "schema": "a.json"}])


def test_a_schema_reads_the_same_from_a_file(project: Project) -> None:
    declare(project)
    (project.root / "collections/notes/a.json").write_text(
        '{"type": "object", "properties": {"amount": {"type": "number"}}}'
    )
    files, inline = declare(project, [{**FACTS, "schema": "a.json"}]), declare(project, [FACTS])
    assert files.code_versions["facts"] == inline.code_versions["facts"]


def test_a_collection_without_routes_needs_no_inference_file(project: Project) -> None:
    (project.root / "inference.yaml").write_text("endpoints: [")
    project.declare()
    with pytest.raises(InferenceInvalid):
        declare(project)


def test_examples_judge_no_more(project: Project) -> None:
    shown = declare(project, [{**KIND, "examples": ["2026-10-05/1.txt"]}], golden=LABELLED)
    assert [item.document for item in shown.golden_labels] == ["2026-10-05/0.txt", "2026-10-05/2.txt"]
    assert [item.document for item in shown.questions["kind"].examples] == ["2026-10-05/1.txt"]


def test_stages_come_after_those_they_use(project: Project) -> None:
    shuffled = declare(project, [REPLY, BRIEF, FACTS, KIND])
    assert [stage.name for stage in shuffled.stages] == ["kind", "facts", "reply", "brief"]
    assert shuffled.inputs_of("reply") == ("documents", "kind", "facts")
    assert shuffled.inputs_of("evaluation_scores") == ("embeddings", "kind")


# Staleness

Edit = Callable[[Project], Collection]


def edited(stage: dict[str, Any], **changes: Any) -> Edit:
    return lambda project: declare(project, [{**each, **changes} if each is stage else each for each in STAGES])


def inference(old: str, new: str) -> Edit:
    def edit(project: Project) -> Collection:
        (project.root / "inference.yaml").write_text(INFERENCE.replace(old, new))
        return declare(project)

    return edit


def other_label(project: Project) -> Collection:
    labels = [{**LABELS[0], "description": "Something else altogether."}, LABELS[1]]
    return declare(project, [{**KIND, "labels": labels}, FACTS, BRIEF, REPLY])


EDITS: list[tuple[str, Edit, set[str]]] = [
    ("nothing", declare, set()),
    ("label", other_label, {"kind"}),
    ("prompt", edited(BRIEF, prompt="prompts/own.md"), {"brief"}),
    ("schema", edited(FACTS, schema={**SCHEMA, "required": ["amount"]}), {"facts"}),
    ("order of a schema", edited(FACTS, schema=dict(reversed(SCHEMA.items()))), {"facts"}),
    ("temperature", edited(FACTS, temperature=0.5), {"facts"}),
    ("seed", edited(FACTS, seed=1), {"facts"}),
    ("limit of the answer", edited(REPLY, max_output_tokens=10), {"reply"}),
    ("limit of the text", edited(REPLY, max_input_characters=10), {"reply"}),
    ("limit of the summary", edited(BRIEF, max_sentences=3), {"brief"}),
    ("condition", edited(REPLY, when={"kind": ["incident"]}), {"reply"}),
    ("stages used", edited(REPLY, after=["facts", "brief"]), {"reply"}),
    ("route of one", edited(FACTS, route="careful"), {"facts"}),
    ("the same endpoint by name", edited(FACTS, route="small"), set()),
    ("model", inference("model: mini", "model: midi"), {"kind", "facts", "brief", "reply"}),
    ("address", inference("{base_url: rehearsal, model: mini", "{base_url: 'http://x/v1', model: mini"), {"kind", "facts", "brief", "reply"}),
    ("model nobody uses", inference("model: maxi", "model: mega"), set()),
    ("timeout", edited(FACTS, timeout_s=5), set()),
    ("age of answers", edited(FACTS, reuse_for="30d"), set()),
    ("policy", edited(FACTS, on_ambiguous="hold"), set()),
    ("price", inference("mini, free: true", "mini, prices: [{from: 2026-01-01, input: 1}]"), set()),
    ("limit of an endpoint", inference("mini, free: true", "mini, free: true, limits: {concurrency: 2}"), set()),
    ("key", inference("mini, free: true", "mini, free: true, key: A_KEY"), set()),
    ("budget", inference("routes:", "budgets: [{name: all, limit_usd: 1}]\nroutes:"), set()),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "stale"), [pytest.param(edit, stale, id=name) for name, edit, stale in EDITS])
def test_an_edit_makes_stale_what_it_can_change_and_nothing_else(project: Project, edit: Edit, stale: set[str]) -> None:
    before = declare(project).code_versions
    after = edit(project).code_versions
    assert {name for name, version in after.items() if version != before[name]} == stale


@pytest.mark.parametrize(
    ("text", "stale"),
    [
        pytest.param(PROMPT.replace("version: 1", "version: 2"), {"brief"}, id="version"),
        pytest.param(PROMPT + "Please.", {"brief"}, id="text"),
        pytest.param(PROMPT.replace("ann", "bob"), set(), id="author"),
    ],
)
def test_an_edit_of_a_prompt_file_makes_its_stage_stale(project: Project, text: str, stale: set[str]) -> None:
    stages = [KIND, FACTS, {**BRIEF, "prompt": "prompts/own.md"}, REPLY]
    before = declare(project, stages).code_versions
    (project.root / "collections/notes/prompts/own.md").write_text(text)
    after = declare(project, stages).code_versions
    assert {name for name, version in after.items() if version != before[name]} == stale


def test_the_versions_of_the_built_in_classifier_are_what_they_were() -> None:
    handbook = load_collection(REPOSITORY / "collections", "handbook")
    assert handbook.code_versions["classification"] == "ae52340d147dd11a"
    assert handbook.code_versions["release_candidate"] == "d7c4e6b45863244f"
