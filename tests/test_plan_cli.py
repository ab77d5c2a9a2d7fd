"""`ai-assets plan` as a person meets it: the sentence, the tables, JSON, and one sentence for each mistake."""

import json
from dataclasses import dataclass
from decimal import Decimal

import pytest
import yaml
from conftest import Project
from provider import Provider
from test_plan import BRIEF, DAY, KIND, NEXT, office, planned, prompt, run  # noqa: F401 - a fixture

from ai_assets.planning.records import decimal
from ai_assets.planning.words import dollars, headline


@pytest.fixture
def declared(office: Project) -> Project:  # noqa: F811
    office.declare(stages=[KIND, BRIEF])
    return office


def test_it_says_in_one_sentence_and_tables_what_a_run_costs(declared: Project) -> None:
    done = declared.cli("plan", "notes")
    assert done.returncode == 0, done.stderr
    first = done.stdout.splitlines()[0]
    assert first.startswith("notes, 2 partitions, 7 documents: 0 calls already paid ($0 not paid again), 11 new calls")
    assert "likely $0.00" in first
    for said in (
        "kind",
        "brief",
        "by batch",
        "the model's tokenizer",
        "Partitions: 2 missing (2026-10-05, 2026-10-06)",
    ):
        assert said in done.stdout
    assert "nobody knows yet how often kind lets a document through" in done.stdout


def test_json_has_everything_and_money_as_decimal_text(declared: Project) -> None:
    done = declared.cli("plan", "notes", "--partition", DAY, "--stage", "kind", "--json")
    assert done.stderr == ""
    said = json.loads(done.stdout)
    assert said["planned"] == [DAY]
    (stage,) = said["stages"]
    assert (stage["stage"], stage["new_calls"]) == ("kind", 6)
    low, likely, high = (Decimal(said["money"][f"{bound}_usd"]) for bound in ("low", "likely", "high"))
    assert 0 < low < likely < high
    assert Decimal(stage["money"]["likely_usd"]) == likely
    assert said["already_usd"] == "0.000000000"


def test_a_tier_is_named_and_its_price_is_the_likely_one(declared: Project) -> None:
    def money(more: str) -> tuple[Decimal, Decimal, str]:
        done = declared.cli("plan", "notes", "--partition", DAY, "--stage", "kind", "--json")
        assert done.returncode == 0, done.stderr
        stage = json.loads(done.stdout)["stages"][0]
        assert stage["tier"] == (more or None)
        return Decimal(stage["money"]["likely_usd"]), Decimal(stage["money"]["high_usd"]), done.stdout

    likely, high, _ = money("")
    path = declared.root / "inference.yaml"
    found = yaml.safe_load(path.read_text())
    for each in found["endpoints"].values():
        if price := next(iter(each.get("prices", ())), None):
            halved = {name: price[name] / 2 for name in ("input", "output") if name in price}
            each["prices"].append({"from": price["from"], "tier": "flex", **halved})
            each["tier"] = "flex"
    path.write_text(yaml.safe_dump(found))
    at_flex, at_most, _ = money("flex")
    assert at_flex < likely
    assert at_most == high
    shown = declared.cli("plan", "notes", "--stage", "kind")
    assert "asked for at the tier 'flex'; served without it, it may cost the most" in shown.stdout


def test_a_range_of_partitions(declared: Project) -> None:
    done = declared.cli("plan", "notes", "--partitions", f"{DAY}...{NEXT}", "--json")
    assert json.loads(done.stdout)["planned"] == [DAY, NEXT]


def test_when_all_is_up_to_date_it_says_so(declared: Project, provider: Provider) -> None:
    run(declared, declared.declare(stages=[KIND, BRIEF]))
    done = declared.cli("plan", "notes")
    assert done.stdout == "notes: all 2 partitions are up to date; a run would ask nothing.\n"


def test_a_collection_without_models_costs_nothing(project: Project) -> None:
    project.declare()
    assert project.cli("plan", "notes").stdout == "notes asks no models: a run costs nothing.\n"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("kind.prompt=other.md", (0, 0, 7)),
        ("kind.max_output_tokens=200", (0, 0, 7)),
        ("kind.route=careful", (0, 7, 0)),  # the first endpoint is the same, and so is the call
        ("kind.timeout_s=9", (7, 0, 0)),
    ],
)
def test_with_another_setting_it_plans_as_if_the_file_said_so(
    declared: Project, provider: Provider, change: str, found: tuple[int, int, int]
) -> None:
    run(declared, declared.declare(stages=[KIND, BRIEF]))
    written = (declared.root / "collections/notes/defs.yaml").read_text()
    other = (declared.root / "collections/notes/kind.md").read_text().replace("Which kind", "Of which kind")
    (declared.root / "other.md").write_text(other)
    said = json.loads(
        declared.cli("plan", "notes", "--partitions", f"{DAY}...{NEXT}", "--with", change, "--json").stdout
    )
    kind = said["stages"][0]
    assert (kind["kept"], kind["reused"], kind["new_calls"]) == found
    assert (declared.root / "collections/notes/defs.yaml").read_text() == written


@dataclass(frozen=True, kw_only=True)
class Mistake:
    id: str
    given: tuple[str, ...]
    says: str


MISTAKES = [
    Mistake(id="stage", given=("--stage", "kin"), says="no stage 'kin' that asks a model; did you mean 'kind'?"),
    Mistake(id="partition", given=("--partition", "2026-1"), says="'2026-1' is no partition of notes"),
    Mistake(id="range", given=("--partitions", "2026-1"), says="'2026-1' is not a range such as"),
    Mistake(id="form", given=("--with", "prompt=x.md"), says="--with prompt=x.md: write STAGE.KEY=VALUE"),
    Mistake(id="of", given=("--with", "kin.prompt=x"), says="has no stage 'kin'; did you mean 'kind'?"),
    Mistake(id="key", given=("--with", "kind.promt=x"), says="has no key 'promt' to change; did you mean 'prompt'?"),
    Mistake(id="name", given=("--with", "kind.name=x"), says="has no key 'name' to change"),
    Mistake(id="file", given=("--with", "kind.prompt=x.md"), says="x.md does not exist"),
    Mistake(id="route", given=("--with", "kind.route=carefull"), says="'carefull'; did you mean 'careful'?"),
    Mistake(id="type", given=("--with", "kind.max_output_tokens=many"), says="should be a whole number (found 'many')"),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.id)
def test_a_mistake_is_one_sentence(declared: Project, mistake: Mistake) -> None:
    done = declared.cli("plan", "notes", *mistake.given)
    assert done.returncode == 2
    assert mistake.says in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("nusd", "shown"),
    [(0, "$0"), (1, "$0.000000001"), (41_234, "$0.000041"), (6_200_000, "$0.0062"), (99_000_000, "$0.099"),
     (250_000_000, "$0.25"), (1_234_567_890, "$1.23"), (1_234_567_890_123, "$1,234.57")],
)  # fmt: skip
def test_small_amounts_are_not_shown_as_nothing(nusd: int, shown: str) -> None:
    assert dollars(nusd) == shown


def test_dollars_as_text_lose_nothing() -> None:
    assert [decimal(each) for each in (0, 1, 5_000_000_000, -7)] == [
        "0.000000000", "0.000000001", "5.000000000", "-0.000000007"
    ]  # fmt: skip


def test_the_sentence_tells_what_is_not_paid_again(declared: Project, provider: Provider) -> None:
    collection = declared.declare(stages=[KIND, BRIEF])
    run(declared, collection)
    with declared.stores() as stores:
        for asset in ("kind", "brief"):
            (stores.lake.folder("notes", asset, DAY) / "manifest.json").unlink()
    said = headline(planned(declared, collection))
    assert said.startswith("notes, 1 partition, 6 documents: 9 calls already paid ($0.00")
    assert said.endswith("not paid again), no new calls")
