"""Two tenants in one home. Everything of `south` holds a word that stands nowhere else; a person of `north` looks."""

import html
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import httpx
import pytest
import yaml
from conftest import STAGE, Project, project_at
from desks import VisitedDesk, desk_of, served
from provider import Provider
from signing import current, known
from spent import Spending
from test_spans import ended, written

from ai_assets.collection.loading import Collection
from ai_assets.documents.retries import failed_again, first, replace_all
from ai_assets.inference import history
from ai_assets.orchestration.in_process import bring_costs_up_to_date
from ai_assets.shadow import records
from ai_assets.shadow.spec import (
    ComparedDocument,
    LabelShift,
    ShadowResults,
    ShadowSpec,
    ShadowVerdict,
    SidePrice,
    VariantResult,
    VariantSpec,
)
from ai_assets.signoff import decisions, outbox, people
from ai_assets.signoff.outbox import BudgetNews
from ai_assets.signoff.people import Person
from ai_assets.signoff.publication import publish
from ai_assets.storage.state import StateStore

DAY, OPEN = "2026-10-05", "2026-10-06"
MARKS = {
    "collection": "zebrawood", "document": "quokka", "text": "axolotl", "label": "narwhal", "person": "ulrica",
    "note": "ibex", "reason": "kakapo", "run": "tapir", "error": "okapi", "channel": "dingo",
    "tenant": "sunda", "group": "pangolin", "prompt": "wombat", "stage": "gecko", "description": "manatee",
}  # fmt: skip
"""Where each is planted in what the other tenant has."""
OWN = {"collection": "alderwood", "document": "beaver", "text": "badger", "label": "otter", "person": "anna"}
TENANTS: Mapping[str, Any] = {
    "north": {"budget": {"limit_usd": 3, "per": "month"}},
    MARKS["tenant"]: {"budget": {"limit_usd": 7, "per": "month", "notify": [MARKS["channel"]]}},
}


@dataclass(frozen=True, kw_only=True)
class TenantWorld(VisitedDesk):
    project: Project
    ids: Mapping[str, str]
    """What identifies things of the other tenant, by what it is."""
    own: Mapping[str, str]
    """The same of one's own."""
    made_up: Mapping[str, str]
    """The same of nothing: as long, and of the same characters."""

    def without(self, answer: httpx.Response, sent: Mapping[str, str]) -> str:
        """The page without what was sent to it, which it may say again, and without what no two pages share."""
        text = answer.text.casefold()
        cut = {value[:length] for value in sent.values() if len(value) > 30 for length in (6, 12)}
        for value in sorted({value for value in sent.values() if len(value) > 3} | cut, key=len, reverse=True):
            for form in {value, quote(value, safe=""), quote(value), quote_plus(value), html.escape(value)}:
                text = text.replace(form.casefold(), "<sent>")
        return re.sub(r"\d+", "0", text)

    def found_in(self, answer: httpx.Response, sent: Mapping[str, str]) -> set[str]:
        text = self.without(answer, sent)
        return {word for word in MARKS.values() if word in text}


def declare(project: Project, name: str, tenant: str, words: Mapping[str, str]) -> Collection:
    labels = [
        {"name": words["label"], "description": f"A report on a {words['text']}, and its cause."},
        {"name": "invoice", "description": "A bill with amounts, tax, a total due and payment terms."},
    ]
    for day in (DAY, OPEN):
        for number in range(2):
            text = f"Report {number}: the {words['text']} was seen on {day}. What follows is its cause."
            project.document(f"{day}/{words['document']}-{number}.txt", text, name)
    stage = {**STAGE, "name": words.get("stage", "kind"), "labels": labels}
    return project.declare(
        name, partitions={"by": "day", "start": DAY, "end": OPEN}, stages=[stage], tenant=tenant,
        golden={"review": True}, signoff={"notify": [MARKS["channel"]] if tenant in MARKS.values() else []},
        description=words.get("description", ""),
    )  # fmt: skip


def shadowed(state: StateStore, collection: str, words: Mapping[str, str]) -> None:
    """A shadow that says something of a document."""
    variant = VariantSpec(name=words.get("prompt", "own"))
    spec = ShadowSpec(
        stage=words.get("stage", "kind"), kind="classify", variants=(variant,), declared_prompt=None,
        declared_digest="", declared_version="1", declared_route="default", sample=1, seed=1,
        slices=(f"kind.label={words['label']}",), release=1,
    )  # fmt: skip
    side = SidePrice(answers=0, per_document_usd=None, p50_s=None, p95_s=None)
    move = LabelShift(live=words["label"], new="invoice", documents=1)
    result = VariantResult(
        name=variant.name, documents=1, changed=1, unanswered=0, moves=(move,), live=side, new=side, paid_nusd=0,
        reused=0,
    )  # fmt: skip
    found = ShadowResults(
        population=2, left_out=0, variants=(result,), verdict=ShadowVerdict(winner=None, said=words["text"])
    )  # fmt: skip
    document = ComparedDocument(
        variant=variant.name, document_id=f"{DAY}/{words['document']}-0.txt", partition=DAY, is_sampled=True,
        live_said=words["label"], new_said="invoice", live_call=None, new_call=None, golden=None, why=None,
    )  # fmt: skip
    shadow = records.begin(state, collection, spec, words["person"])
    records.finish(state, shadow, found, [document])


def published(project: Project, collection: Collection, by: Person) -> None:
    """One day is live, the other waits."""
    stores, rules = project.stores(), collection.settings.signoff
    project.refresh(collection)
    with stores.state.read() as connection:
        waiting = decisions.waiting(connection, collection.name, [DAY], rules)
    decisions.decide(
        stores.state, collection.name, waiting, "approve", by=by, reason=MARKS["reason"] if "ulrica" in by.name else "",
        rules=rules,
    )  # fmt: skip
    publish(collection, stores, by="test")


@contextmanager
def tenant_world(folder: Path) -> Iterator[TenantWorld]:
    with pytest.MonkeyPatch.context() as patch, Provider() as provider:
        project = project_at(folder, patch)
        state = project.stores().state
        (project.root / "operations.yaml").write_text(yaml.safe_dump({"tenants": dict(TENANTS)}))
        south = declare(project, MARKS["collection"], MARKS["tenant"], MARKS)
        north = declare(project, OWN["collection"], "north", OWN)
        tenant_of = {south.name: MARKS["tenant"], north.name: "north"}
        for name, role, place in (
            ("anna", "admin", "tenant:north"), ("nils", "reviewer", "tenant:north"), ("oper", "admin", "*"),
            (MARKS["person"], "admin", f"tenant:{MARKS['tenant']}"),
        ):  # fmt: skip
            known(state, name, role, place)
        with state.write() as connection:
            people.add(connection, MARKS["person"], email=f"{MARKS['person']}@example.org", password_hash=None, by="t")
            people.join(connection, MARKS["person"], MARKS["group"], by="test")
            people.give(connection, f"group:{MARKS['group']}", "viewer", MARKS["collection"], by="test")
        for collection, who in ((south, MARKS["person"]), (north, "anna")):
            with state.read() as connection:
                found = people.find(connection, who)
            assert found is not None
            published(project, collection, Person(**{**vars(found), "tenant_of": tenant_of}))
        for collection, words in ((south, MARKS), (north, OWN)):
            shadowed(project.stores().state, collection.name, words)
        calls = {name: _spent(project, provider, name, tenant_of[name]) for name in tenant_of}
        _marked(project, south)
        bring_costs_up_to_date(project.home)
        with served(desk_of(project, dagster_url="http://127.0.0.1:9")) as desk, ExitStack() as closing:
            ids = {name: _identifiers(project, name, calls[name]) for name in tenant_of}
            found = TenantWorld(
                project=project, desk=desk, ids=ids[south.name], own=ids[north.name],
                made_up={name: _made_up(value) for name, value in ids[south.name].items()},
                closing=closing,
            )  # fmt: skip
            noted = found.visitor(MARKS["person"]).submit(
                f"/requests/{found.ids['request_id']}/notes", document=found.ids["document"], kind="comment",
                text=MARKS["note"],
            )  # fmt: skip
            assert noted.status_code == 200, noted.text
            yield found


def _spent(project: Project, provider: Provider, collection: str, tenant: str) -> str:
    """Models were asked about its documents, and lost one answer; the key of a call."""
    south = tenant == MARKS["tenant"]
    words = MARKS if south else OWN
    spending = Spending(project=project, provider=provider)
    spending.declare()
    who = {
        "tenant": tenant, "collection": collection, "asset": words.get("stage", "kind"), "partition": DAY,
        "run_id": f"{MARKS['run']}-run" if south else "own-run", "prompt": f"{words.get('prompt', 'own')}@1",
    }  # fmt: skip
    document = f"{DAY}/{words['document']}-0.txt"
    spending.ask(document, **who)
    spending.lose(f"{DAY}/{words['document']}-1.txt", **who)
    with project.stores().state.read() as connection:
        return history.attempts(connection, document=document, limit=1)[0].call


def _marked(project: Project, south: Collection) -> None:
    """What else there is of a collection: notes, tries, spans, channels that fail."""
    stores = project.stores()
    stage, document = MARKS["stage"], f"{OPEN}/{MARKS['document']}-0.txt"
    refused = first(south.name, stage, OPEN, document, question="q", error="refused", message=MARKS["error"])
    with stores.state.write() as connection:
        replace_all(connection, south.name, stage, OPEN, [failed_again(None, refused)])
        news = BudgetNews(about="budget", title=MARKS["text"], body=MARKS["text"])
        outbox.make(connection, [news], [MARKS["channel"]], DAY)
        connection.exec_driver_sql("UPDATE notices SET error = 'okapi', state = 'failed'")
    written(
        stores.state, ended(stage, OPEN, collection=south.name, run_id=f"{MARKS['run']}-run", error=MARKS["error"])
    )  # fmt: skip


def _identifiers(project: Project, collection: str, call: str) -> dict[str, str]:
    words = MARKS if collection == MARKS["collection"] else OWN
    request = current(project.stores().state, OPEN, collection)
    return {
        "collection": collection, "request_id": request.request_id, "digest": request.digest, "call": call,
        "document": f"{OPEN}/{words['document']}-0.txt", "person": words["person"], "number": "1",
        "run_id": f"{words.get('run', 'own')}-run", "tenant": f"tenant:{words.get('tenant', 'north')}",
        "group": words.get("group", "none"), "stage": words.get("stage", "kind"), "label": words["label"],
        "judge": words.get("stage", "kind"),
    }  # fmt: skip


def _made_up(value: str) -> str:
    """The same for everybody, so that both are told apart by nothing but being there."""
    if value.isdigit():
        return value
    return re.sub(r"[a-z]+", lambda found: found[0] if found[0] in ("tenant", "txt", "run") else found[0][::-1], value)
