"""Claims about shadows: what is compared and paid, what it changes (nothing), and what a promotion then pays for."""

import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from collector import Collector
from conftest import Project, project_at
from desks import Visitor, desk_of, served
from provider import Provider
from signing import decide, known, made_known, somebody
from typer.testing import CliRunner

from ai_assets.base.errors import UserError
from ai_assets.cli.app import app
from ai_assets.cli.shadow_promotion import chosen_variant, promote
from ai_assets.collection.loading import Collection, load_collection
from ai_assets.forgetting.erasing import forget
from ai_assets.inference.records import SHADOW
from ai_assets.run.refresh import refresh
from ai_assets.shadow import records
from ai_assets.shadow.comparing import paired_of, qualities, verdict, worst_slices
from ai_assets.shadow.errors import ShadowCapped
from ai_assets.shadow.shadowing import ShadowRequest, carry_out, migration_plan, propose
from ai_assets.shadow.spec import ComparedDocument, Shadow
from ai_assets.shadow.variants import WantedVariant
from ai_assets.signoff.publication import publish
from ai_assets.storage.stores import Stores

DAYS = ("2026-10-05", "2026-10-06")
BILL = "Invoice {n}. Amounts with tax: the total due is {n}50.00 EUR, and the payment terms are 30 days."
FIRE = "Report {n} on an accident. A fire broke out beside pump {n}. The cause was a leak of oil. Nobody was hurt."
GERMAN = "Bericht {n} über einen Unfall. Neben der Pumpe ist ein Feuer ausgebrochen, und niemand wurde dabei verletzt."
INFERENCE = """\
endpoints:
  small: {base_url: rehearsal, model: mini, prices: [{from: 2026-01-01, input: 1, output: 2}]}
  large: {base_url: rehearsal, model: maxi, prices: [{from: 2026-01-01, input: 10, output: 20}]}
routes:
  default: {endpoints: [small]}
  careful: {endpoints: [large]}
budgets:
  - {name: everything, limit_usd: 5}
"""
LABELS = [
    {"name": "invoice", "description": "A bill with amounts, tax, a total due and payment terms."},
    {"name": "incident", "description": "A report on an accident, a fire, a leak or an outage, and its cause."},
]
STAGE = {"name": "kind", "kind": "classify", "route": "default", "labels": LABELS, "prompt": "kind.md"}
BAD = "- invoice: A report on an accident, a fire, a leak, and its cause.\n- incident: A bill with amounts and tax."
GOOD = "- invoice: A bill with amounts, tax, a total due.\n- incident: A report on an accident, a fire, its cause."
TEXT = "---\nversion: {version}\nauthor: ann\n---\n## system\n{lines}\n## user\n"
TEXT += "<document>{{{{ document.text }}}}</document>\n"


@dataclass(frozen=True, kw_only=True)
class Office:
    """Two days of letters, live with a prompt by which all of them are invoices."""

    project: Project
    provider: Provider
    stores: Stores

    @property
    def collection(self) -> Collection:
        return load_collection(self.project.root / "collections", "letters")

    @property
    def folder(self) -> Path:
        return self.project.root / "collections" / "letters"

    def prompt(self, name: str, lines: str, version: str = "1") -> Path:
        path = self.folder / name
        path.write_text(TEXT.format(version=version, lines=lines))
        return path

    def propose(self, *prompts: str, **more: Any) -> Any:
        variants = [WantedVariant(name=Path(each).stem, prompt=self.folder / each) for each in prompts]
        return propose(self.collection, self.stores, ShadowRequest(stage="kind", variants=variants, **more))

    def shadow(self, *prompts: str, cap_nusd: int = 10**9, **more: Any) -> Shadow:
        return carry_out(self.propose(*prompts, **more), self.stores, cap_nusd=cap_nusd, by="ann")

    def documents(self, shadow: Shadow) -> list[ComparedDocument]:
        with self.stores.state.read() as connection:
            return records.documents_of(connection, shadow)

    def attempts(self) -> int:
        with self.stores.state.read() as connection:
            return int(connection.execute(sa.text("SELECT count(*) FROM attempts")).scalar_one())

    def seen(self) -> dict[str, Any]:
        """All that partitions and readers see: every table but the ledger's and the shadows', and every file."""
        tables = ("datasets", "releases", "review_requests", "partition_facts", "refreshes", "audit", "listings")
        with self.stores.state.read() as connection:
            rows = {name: sorted(map(repr, connection.execute(sa.select(sa.text("*")).select_from(sa.text(name)))))
                    for name in tables}  # fmt: skip
        lake = self.stores.home.root / "lake"
        files = {str(path.relative_to(lake)): path.read_bytes() for path in lake.rglob("*") if path.is_file()}
        return {**rows, **files}

    def run(self) -> None:
        with self.project.work(self.collection, "again") as work:
            for _ in refresh(work, sorted(work.listing.by_partition)):
                pass


def made(folder: Path, patch: pytest.MonkeyPatch, provider: Provider) -> Office:
    project = project_at(folder, patch)
    (project.root / "inference.yaml").write_text(INFERENCE)
    found = Office(project=project, provider=provider, stores=project.stores())
    golden = []
    for day in DAYS:
        for n in range(5):
            texts = {"bill": BILL.format(n=n), "fire": FIRE.format(n=n)}
            if n % 2:
                texts["fire"] = f"{GERMAN.format(n=n)} {texts['fire']}"
            for kind, text in texts.items():
                project.document(f"{day}/{kind}-{n}.txt", f"{text} On {day}.", "letters")
                label = "invoice" if kind == "bill" else "incident"
                golden.append({"document": f"{day}/{kind}-{n}.txt", "label": label})
    found.folder.mkdir(parents=True, exist_ok=True)
    (found.folder / "golden.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in golden))
    found.prompt("kind.md", BAD)
    found.prompt("good.md", GOOD)
    found.prompt("same.md", BAD + "\n- Say which.")
    days = {"by": "day", "start": DAYS[0], "end": DAYS[-1]}
    project.declare("letters", stages=[STAGE], partitions=days, golden={"labels": "golden.jsonl"})
    found.run()
    decide(found.stores.state, found.collection, by="ann")
    publish(found.collection, found.stores, by="test")
    return found


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with pytest.MonkeyPatch.context() as patch, Provider(answers="builtin") as provider:
        patch.setenv("AI_ASSETS_REHEARSAL_URL", provider.url)
        yield made(tmp_path_factory.mktemp("shadow"), patch, provider)


@pytest.fixture(scope="module")
def compared(office: Office) -> Shadow:
    return office.shadow("good.md", sample=12)


# What is compared


def test_it_says_its_price_before_it_asks_and_changes_nothing_that_is_seen(
    office: Office, collector: Collector
) -> None:
    before, calls = office.seen(), office.attempts()
    proposed = office.propose("good.md", sample=6, seed=7)
    assert (office.attempts(), proposed.spec.release) == (calls, 1)
    asked = len(proposed.drawn.documents)
    assert proposed.new_calls <= asked == 20  # the sample, and the other golden documents
    shadow = carry_out(proposed, office.stores, cap_nusd=proposed.cap_nusd, by="ann")
    assert office.seen() == before
    assert shadow.results is not None
    result = shadow.results.of("good")
    assert (result.documents, result.paid_nusd <= proposed.cap_nusd) == (6, True)
    with office.stores.state.read() as connection:
        query = "SELECT DISTINCT asset FROM callers WHERE run_id LIKE 'shadow letters %'"
        assert connection.execute(sa.text(query)).scalars().all() == [f"kind{SHADOW}"]
    (root,) = [span for span in collector.spans if not span.parent_id]
    assert (root.name, root.status, root["ai_assets.stage"]) == (f"shadow letters {shadow.name}", 0, "kind")
    answered = collector.below(root)
    assert {call.name for call in answered} == {f"call kind{SHADOW}"}
    attempts = [attempt for call in answered for attempt in collector.below(call)]
    assert len(attempts) == office.attempts() - calls > 0
    assert 1 + len(answered) + len(attempts) == len(collector.spans)
    paid = sum(attempt["ai_assets.cost.usd"] for attempt in attempts)
    assert paid == pytest.approx(result.paid_nusd / 1e9)


def test_the_report_says_what_changes_how_good_it_is_and_what_all_would_cost(office: Office, compared: Shadow) -> None:
    assert compared.results is not None
    found = compared.results.of("good")
    (move,) = found.moves
    assert (move.live, move.new, move.documents) == ("invoice", "incident", found.changed)
    sampled = [each.document_id for each in office.documents(compared) if each.is_sampled]
    assert (found.documents, found.changed) == (12, sum("fire" in each for each in sampled))
    assert found.quality is not None
    assert (found.quality.n, found.quality.live_right, found.quality.new_right) == (20, 10, 20)
    assert compared.results.verdict.winner == "good"
    assert {each.slice for each in found.slices} >= {"language en", "kind invoice"}
    assert found.live.per_document_usd
    assert found.new.p50_s
    assert found.migration is not None
    assert (found.migration.calls, found.migration.answered) == (0, 20)


def test_the_same_documents_are_drawn_again_and_nothing_is_paid_again(office: Office, compared: Shadow) -> None:
    calls = office.attempts()
    again = office.shadow("good.md", sample=12)
    assert office.attempts() == calls
    assert again.number > compared.number
    drawn = [[(each.document_id, each.is_sampled) for each in office.documents(one)] for one in (compared, again)]
    assert drawn[0] == drawn[1]
    assert again.results is not None
    assert (again.results.of("good").paid_nusd, again.results.of("good").reused) == (0, 20)


def test_a_slice_is_all_of_its_documents_and_several_variants_have_one_verdict(office: Office) -> None:
    shadow = office.shadow("good.md", "same.md", slices=("language=de",))
    assert shadow.results is not None
    by = {each.name: each for each in shadow.results.variants}
    assert (by["good"].documents, by["good"].changed) == (4, 4)
    assert (by["same"].documents, by["same"].changed) == (4, 0)
    assert shadow.results.verdict.winner is None  # four pairs are too few
    assert "it would take" in shadow.results.verdict.said


def test_at_its_cap_it_stops_and_goes_on_without_paying_again(office: Office) -> None:
    office.prompt("other.md", GOOD + "\n- The label alone counts.")
    proposed = office.propose("other.md", sample=6)
    dearest = max(each.dearest_call_nusd for each in proposed.plans.values())
    calls = office.attempts()
    with pytest.raises(ShadowCapped, match="is at its cap of"):
        carry_out(proposed, office.stores, cap_nusd=2 * dearest, by="ann")
    some = office.attempts() - calls
    assert 0 < some < 20
    shadow = office.shadow("other.md", sample=6)
    assert office.attempts() - calls == 20
    with office.stores.state.read() as connection:
        spent = "SELECT SUM(cost_nusd) FROM attempts JOIN callers USING (caller_id) WHERE run_id = :r"
        total = connection.execute(sa.text(spent), {"r": f"shadow letters {shadow.number} other"}).scalar_one()
        names = [each.name for each in records.find(connection, ["letters"])]
    assert shadow.results is not None
    assert shadow.results.of("other").paid_nusd == total  # of both times, in one record
    assert len(names) == len(set(names)) == shadow.number


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_and_pays_only_what_was_in_flight_again(office: Office) -> None:
    office.prompt("killed.md", GOOD + "\n- Whatever happens.")
    command = [str(Path(sys.executable).parent / "ai-assets"), "shadow", "letters", "--stage", "kind"]
    command += ["--prompt", "killed.md", "--yes", "--json"]
    calls, delivered = office.attempts(), office.provider.stats()["delivered"]
    office.provider.configure(latency_ms=400)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        office.provider.wait_delivered(delivered + 4)
        process.kill()
        process.communicate(timeout=300)
    office.provider.configure(latency_ms=0)
    with office.stores.state.read() as connection:
        begun = records.find(connection, ["letters"])[0]
    assert (begun.state, begun.results) == ("open", None)
    assert process.returncode == -signal.SIGKILL
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["name"], found["state"], len(found["documents"])) == (begun.name, "done", 20)
    assert found["results"]["variants"][0]["unanswered"] == 0
    with office.stores.state.read() as connection:
        query = sa.text("SELECT count(*) FROM attempts WHERE state = 'ambiguous'")
        in_flight = connection.execute(query).scalar_one()
    assert office.attempts() - calls == 20 + in_flight
    assert len(office.provider.bills()) <= in_flight < 20


MISTAKES = [
    (["--prompt", "nothing.md"], "there is no such file: neither"),
    (["--prompt", "kind.md"], "it asks what stage 'kind' of letters asks now"),
    (["--route", "carful"], "unknown route or endpoint 'carful'; did you mean 'careful'?"),
    (["--prompt", "good.md", "--sample", "0"], "a sample of 0 documents shows nothing"),
    (["--prompt", "good.md", "--slice", "language=fr"], "no document is in the slice language=fr (values of language:"),
    (["--prompt", "good.md", "--slice", "langage=de"], "not divided by 'langage'; did you mean 'language'?"),
    (["--prompt", "good.md", "--slice", "language"], "is no KEY=VALUE such as language=de"),
    (["--variant", "short.md"], "write NAME=FILE"),
    (["--prompt", "good.md", "--prompt", "good.md"], "there are two of that name"),
    ([], "say what is compared: --prompt FILE"),
    (["--prompt", "broken.md"], "documnt"),
    (["--prompt", "unseen.md"], "add --yes"),
]


@pytest.mark.parametrize(("arguments", "says"), MISTAKES, ids=[" ".join(each) for each, _ in MISTAKES])
def test_a_mistake_is_one_sentence(office: Office, arguments: Sequence[str], says: str) -> None:
    office.prompt("unseen.md", GOOD + "\n- Unseen.")
    broken = office.prompt("broken.md", GOOD)
    broken.write_text(broken.read_text().replace("document.text", "documnt.text"))
    done = CliRunner().invoke(app, ["shadow", "letters", "--stage", "kind", *arguments])
    assert isinstance(done.exception, UserError), done.output
    assert says in str(done.exception)
    assert "\n" not in str(done.exception)


def test_a_stage_that_asks_no_model_cannot_be_compared(office: Office) -> None:
    for stage, says in (("kin", "did you mean 'kind'?"), ("documents", "there is no such stage")):
        with pytest.raises(UserError, match="Nothing was asked") as refused:
            propose(office.collection, office.stores, ShadowRequest(stage=stage, variants=()))
        assert says in str(refused.value)


# Statistics


def pairs(variant: str, better: int, worse: int, same: int) -> list[ComparedDocument]:
    said = [("b", "a")] * better + [("a", "b")] * worse + [("a", "a")] * same
    return [
        ComparedDocument(
            variant=variant, document_id=str(n), partition="p", is_sampled=True, live_said=live, new_said=new,
            live_call=None, new_call=None, golden="a", why=None,
        )
        for n, (live, new) in enumerate(said)
    ]  # fmt: skip


def test_of_variants_that_are_no_better_one_wins_by_chance_in_five_of_a_hundred_at_most() -> None:
    chance, wins = random.Random(1), 0
    for _ in range(300):
        found = {}
        for name in ("a", "b", "c"):
            better = sum(chance.random() < 0.5 for _ in range(30))
            found[name] = pairs(name, better, 30 - better, 20)
        wins += verdict(list(found), qualities(found, None), of_labels=True).winner is not None
    assert wins / 300 <= 0.05


def test_the_winner_has_the_best_lower_bound_and_what_is_open_says_how_many_it_takes() -> None:
    found = {"a": pairs("a", 40, 10, 50), "b": pairs("b", 30, 2, 68), "c": pairs("c", 6, 3, 91)}
    judged = qualities(found, None)
    assert verdict(list(found), judged, of_labels=True).winner == max("ab", key=lambda name: judged[name].low or 0)
    alone = qualities({"c": found["c"]}, None)["c"]
    assert alone.more is not None
    factor = (alone.n + alone.more) / alone.n
    enough = qualities({"c": pairs("c", round(6 * factor), round(3 * factor), round(91 * factor))}, None)["c"]
    assert alone.chance > 0.05 >= enough.chance
    said = verdict(["c"], {"c": alone}, of_labels=True).said
    assert f"it would take {alone.n + alone.more:,} golden documents" in said


def test_the_worst_slices_are_where_golden_documents_lose_most() -> None:
    documents = pairs("a", 5, 5, 10)
    lost = {each.document_id for each in documents if each.live_said == "a" != each.new_said}
    slices = {each.document_id: ["lost" if each.document_id in lost else "rest"] for each in documents}
    found = worst_slices(documents, slices)
    assert [(each.slice, each.better, each.worse) for each in found] == [("lost", 0, 5), ("rest", 5, 0)]
    assert paired_of([], None) is None


# The record


def test_the_record_is_read_by_commands_and_on_the_desk_by_whoever_may_see_the_collection(
    office: Office, compared: Shadow
) -> None:
    listed = json.loads(CliRunner().invoke(app, ["shadow", "list", "letters", "--json"]).output)
    assert compared.name in [each["name"] for each in listed]
    shown = CliRunner().invoke(app, ["shadow", "show", "letters", compared.name])
    assert "good is better than what is live" in shown.output
    assert "Side by side" in shown.output
    with pytest.raises(UserError, match="letters has no shadow 'kind-99'"):
        CliRunner().invoke(app, ["shadow", "show", "letters", "kind-99"], catch_exceptions=False)
    known(office.stores.state, "vera", "viewer", "letters")
    known(office.stores.state, "olga", "viewer", "elsewhere")
    with served(desk_of(office.project)) as desk, ExitStack() as closing:
        vera, olga = Visitor(desk.url), Visitor(desk.url)
        closing.callback(vera.http.close)
        closing.callback(olga.http.close)
        vera.sign_in("vera")
        olga.sign_in("olga")
        page = vera.get(f"/shadows/letters/{compared.number}").text
        assert "good is better than what is live" in page
        assert "/releases/letters/1/document?id=2026-10-05%2Ffire-0.txt" in page
        assert compared.name in vera.get("/shadows").text
        assert olga.get(f"/shadows/letters/{compared.number}").status_code == 404
        assert compared.name not in olga.get("/shadows").text


# Promotion


def test_another_route_is_a_patch_of_the_declaration_for_a_person(office: Office) -> None:
    variants = [WantedVariant(name="careful", route="careful")]
    wanted = ShadowRequest(stage="kind", variants=variants, sample=2)
    shadow = carry_out(propose(office.collection, office.stores, wanted), office.stores, cap_nusd=10**9, by="ann")
    before = (office.folder / "defs.yaml").read_text()
    made = promote(office.collection, shadow, chosen_variant(shadow, None))
    assert (office.folder / "defs.yaml").read_text() == before
    assert made.written is None
    changed = [line.strip("+- ") for line in made.patch.splitlines() if line[:1] in "+-"][2:]
    assert changed == ["route: default", "route: careful"]


def test_what_was_changed_since_is_not_promoted(office: Office, compared: Shadow) -> None:
    variant = chosen_variant(compared, None)
    for name, lines in (("good.md", GOOD + "!"), ("kind.md", BAD + "!")):
        before = (office.folder / name).read_bytes()
        office.prompt(name, lines)
        with pytest.raises(UserError, match=f"{name} was changed since it was compared; compare again"):
            promote(office.collection, compared, variant)
        (office.folder / name).write_bytes(before)


def test_after_a_promotion_a_run_pays_nothing_that_the_shadow_paid(office: Office) -> None:
    office.prompt("best.md", GOOD + "\n- Be brief.")
    shadow = office.shadow("best.md", sample=7, slices=("partition=2026-10-05",))
    asked = {each.document_id for each in office.documents(shadow)}
    done = CliRunner().invoke(app, ["shadow", "promote", "letters", shadow.name])
    assert "Written:" in done.output, (done.output, done.exception)
    assert "ai-assets backfill letters --stage kind" in done.output
    assert office.collection.questions["kind"].prompt.version == "2"  # both had version 1
    calls, billed = office.attempts(), office.provider.stats()["billed"]
    found = migration_plan(office.collection, office.stores, "kind")
    office.run()
    with office.stores.state.read() as connection:
        rows = connection.execute(sa.text("SELECT document FROM attempts ORDER BY sent_at DESC")).scalars().all()
        promoted = records.named(connection, "letters", shadow.name).promoted
    again = set(rows[: office.attempts() - calls])
    assert promoted == "best"
    assert not again & asked
    assert office.provider.stats()["billed"] - billed == len(again) == found.new_calls > 0


def test_a_forgotten_document_is_not_shown_any_more(office: Office, compared: Shadow) -> None:
    document = f"{DAYS[1]}/fire-4.txt"
    assert document in [each.document_id for each in office.documents(compared)]
    list(
        forget(
            office.stores,
            office.collection,
            document,
            by=made_known(office.stores.state, somebody("root", "admin")),
            reason="asked for",
        )
    )
    assert document not in [each.document_id for each in office.documents(compared)]
