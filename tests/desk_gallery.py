"""Every page of the desk with content as real collections have it, and how it is opened: for tests that look at pages.

`python tests/desk_gallery.py FOLDER [NAME ...]` takes a picture of each (or of those whose names begin so) at four
widths, light and dark.
"""

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from candidates import asked, document
from conftest import CHROMIUM, Project
from desk_stories import DAYS, ODD, Story, story, tell
from desks import Visitor
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from provider import Provider
from signing import decide, known
from spent import Spending
from test_spans import ended, written

from ai_assets.collection.loading import load_collection
from ai_assets.documents.retries import failed_again, first, record_partition, replace_all
from ai_assets.inference import history
from ai_assets.run.errors import PartitionsFailed
from ai_assets.run.evaluated import newest_evaluation
from ai_assets.shadow import records
from ai_assets.shadow.spec import (
    ComparedDocument,
    LabelShift,
    MoneyRange,
    QualityDifference,
    ShadowResults,
    ShadowSpec,
    ShadowVerdict,
    SidePrice,
    SliceDifference,
    VariantResult,
    VariantSpec,
)
from ai_assets.signoff import people
from ai_assets.signoff.candidate import snapshot_folder
from ai_assets.signoff.publication import publish
from ai_assets.signoff.requests import SignoffRequest
from ai_assets.storage.lake import write_parquet

WIDTHS = (390, 800, 1280, 1600)
HEIGHT = 900
LONG_NAME = "claims_of_the_northern_transport_department"
TOPICS = ("theft", "water damage", "late delivery", "wrong address", "broken pallet", "customs", "fuel surcharge",
          "temperature log")  # fmt: skip
WHERE = ("of goods in transit", "in a warehouse", "at the border", "by a carrier", "other")
LABELS = [
    {
        "name": f"{TOPICS[n % 8]} {WHERE[n // 8]}",
        "description": f"A letter, form or report about {TOPICS[n % 8]}, filed under number {n + 1} of the catalogue.",
    }
    for n in range(40)
]  # fmt: skip
ARABIC = "فاتورة رقم ٧: المبلغ الإجمالي المستحق مع الضريبة هو 1٬250 يورو، ويستحق الدفع خلال ثلاثين يومًا."
HEBREW = "דוח תקלה: דליפה במשאבה 7 באולם 3. הנזק תוקן באותו יום."
UNBROKEN = "Donaudampfschifffahrtselektrizitaetenhauptbetriebswerkbauunterbeamtengesellschaft"
MARKDOWN = """\
# Report on the incident

The **dock door** jammed at 14:05. Two pallets were damaged; see the table.

| Pallet | Goods | Damage in EUR | Carrier |
|---|---|---:|---|
| 4711-A | Pumps, seals and gaskets for hall 7 | 1,250.00 | Nordfracht Spedition GmbH & Co. KG |
| 4711-B | Ventilation grilles | 87,430.50 | Nordfracht Spedition GmbH & Co. KG |

## What follows

1. The door is inspected every quarter.
2. The insurer is informed ([form 12](https://example.org/forms/12)).

> The driver says that the light was green.

```
sensor 7  14:04:58  0.93 bar
sensor 7  14:05:02  0.00 bar
```
"""
FACTS: Mapping[str, Any] = {
    "claimant": "Nordfracht Spedition GmbH & Co. KG", "amount": 88680.5, "currency": "EUR", "paid": False,
    "policy": "EU-2026-0000-4711-0815-AB", "due": None, "tags": ["urgent", "second notice", "legal"],
    "address": {"street": "Am Alten Hafen 12", "city": "Hamburg", "country": {"code": "DE", "name": "Germany"}},
    "lines": [
        {"text": "Pumps, seals and gaskets for hall 7", "quantity": 12, "price": 104.17},
        {"text": "Ventilation grilles", "quantity": 350, "price": 249.8},
    ],
    "evidence": ["The **dock door** jammed at 14:05.", "Two pallets were damaged"],
}  # fmt: skip
CHAPTER = "The carrier keeps a log of every delivery, and the warehouse signs for it. " * 11
BOOK = "".join(
    f"## Chapter {n // 10 + 1}\n\n" * (n % 10 == 0) + f"Page {n + 1} of the manual. {CHAPTER}\n\n" for n in range(300)
)
BOOK_ID = f"{DAYS[0]}/manual-of-the-warehouse.pdf"
LONG_ID = f"{DAYS[0]}/archive/2026/correspondence-with-carriers/{UNBROKEN}/scan_0000471100000815_final_version-2.pdf"
SCHEMES = ("light", "dark")


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A page, and what has to be done on it to see it as it is wanted."""

    address: str
    press: str | None = None
    """A button that leads to the page."""
    choose: Sequence[str] = ()
    """Boxes to tick before."""
    signed_out: bool = False
    open_all: bool = False
    """Whether folded parts are opened."""
    bare: bool = False
    """One of the pages of `addresses`, which `test_desk_accessible` looks at too."""


@dataclass(frozen=True, kw_only=True)
class Gallery:
    told: Story
    ann: Visitor
    pages: Mapping[str, Opened] = field(default_factory=dict)

    def context(self, browser: Browser, person: Visitor | None = None, **options: Any) -> BrowserContext:
        context = browser.new_context(base_url=self.told.running.url, **options)
        visitor = person or self.ann
        cookie = {"name": "desk", "value": visitor.http.cookies["desk"], "url": self.told.running.url}
        context.add_cookies([cookie])  # type: ignore[list-item]
        return context

    def show(self, page: Page, wanted: Opened) -> None:
        if wanted.signed_out:
            page.context.clear_cookies()
        page.goto(wanted.address)
        for box in wanted.choose:
            page.locator(box).first.check(force=True)
        if wanted.press:
            page.locator(wanted.press).first.click()
            page.wait_for_load_state()
        if wanted.open_all:
            page.evaluate("document.querySelectorAll('main details').forEach(each => { each.open = true })")


@contextmanager
def gallery(folder: Path, as_told: Project) -> Iterator[Gallery]:
    with story(folder, as_told) as told:
        known(told.stores.state, "ann", "admin")
        with told.stores.state.write() as connection:
            people.join(connection, "rita", "legal", by="test")
            people.give(connection, "group:legal", "approver", "strict", by="test")
            people.disable(connection, "nob", by="test")
        known(
            told.stores.state, "wilhelmina-charlotte.von-hohenstein-lichtenberg@northern-transport.example", "reviewer"
        )
        spend(told)
        ann = told.running.visitor("ann")
        pages = {name: Opened(address=address, bare=True) for name, address in addresses(told, ann).items()}
        yield Gallery(told=told, ann=ann, pages={**pages, **furnished(told, ann)})


def spend(told: Story) -> None:
    """Models were asked about some documents, lately and a while ago, and the figures are built."""
    with Provider() as provider:
        spending = Spending(project=told.project, provider=provider)
        spending.declare()
        for days_ago in (20, 4, 0):
            for asset in ("kind", "summary", "a stage whose name is longer than a phone is wide"):
                run = {"run_id": f"{asset} {days_ago}", "days_ago": days_ago, "asset": asset}
                spending.ask(*(f"{DAYS[0]}/{n}.txt" for n in range(2)), ODD, collection="notes", partition=DAYS[0],
                             **run)  # fmt: skip
        spending.lose("lost.txt", collection="notes", partition=DAYS[1], run_id="lost")
    built = told.project.cli("cost")  # not in this process, where the browser's loop runs
    assert built.returncode == 0, built.stderr


def addresses(told: Story, ann: Visitor) -> dict[str, str]:
    """Pages that can be opened by their address, with something on them."""
    rejected, approved, published = (told.latest(day) for day in DAYS[9:12])
    fields = {"verdict": "approve", "confirmed": "yes"}
    decision = f"/requests/{published.request_id}/decision"
    ann.submit(decision, **fields, digest=published.digest)
    told.publish()
    ann.submit(f"/requests/{approved.request_id}/decision", **fields, digest=approved.digest)
    lost = {"verdict": "reject", "confirmed": "yes", "reason": "no", "digest": rejected.digest}
    ann.submit(f"/requests/{rejected.request_id}/decision", **lost)
    odd = f"/requests/{told.latest(DAYS[0]).request_id}"
    note = {"document": ODD, "kind": "second look", "text": "is it an incident?"}
    ann.submit(f"{odd}/notes", **note)
    leave_without_an_answer(told)
    return {
        "inbox": "/",
        "inbox, all": "/?status=all",
        "inbox, none": "/?text=nothing-like-it",
        "request": odd,
        "request with a failed gate": f"/requests/{told.latest(DAYS[0], 'strict').request_id}",
        "request, approved": f"/requests/{approved.request_id}",
        "request, rejected": f"/requests/{rejected.request_id}",
        "request, published": f"/requests/{published.request_id}",
        "document": f"{odd}/document?id={quote(ODD, safe='')}",
        "unanswered": "/unanswered",
        "unanswered, all": "/unanswered?show=all",
        "unanswered, none": "/unanswered?collection=strict",
        "data docs": "/quality",
        "data docs, failed": "/quality?show=failed&collection=strict",
        "data docs, none": "/quality?collection=notes",
        "audit": "/audit",
        "audit, none": "/audit?actor=nobody",
        "runs": "/runs",
        "runs of one, without Dagster": "/runs/notes",
        "price": f"/runs/notes?price=yes&first={DAYS[0]}",
        "releases": "/releases",
        "releases of one": "/releases/notes?at=2100-01-01T00:00",
        "release": "/releases/notes/1",
        "release, searched": "/releases/notes/1?search=pump",
        "release, filtered": "/releases/notes/1?stage=kind&status=ok",
        "release, none": "/releases/notes/1?text=nothing-like-it",
        "release, compared": "/releases/notes/1/difference",
        "released document": f"/releases/notes/1/document?id={DAYS[11]}/0.txt",
        "answer": f"/answers/{a_call(told)}",
        "people": "/people",
        "people, none": "/people?text=nobody-like-them",
        "person": "/people/rita",
        "person, disabled": "/people/nob",
        "costs": "/costs",
        "costs by stage": "/costs?days=90&collection=notes&by=asset",
        "costs, none": "/costs?from=2020-01-01&to=2020-01-07",
        "account": "/account",
        "nothing there": "/nowhere",
    }


def a_call(told: Story) -> str:
    """About the document with the odd name."""
    with told.stores.state.read() as connection:
        return history.attempts(connection, document=ODD, limit=1)[0].call


def leave_without_an_answer(told: Story) -> None:
    """One document needs a person, another is asked about again by itself, and a partition failed."""
    place = {"collection": "notes", "partition": DAYS[0], "asset": "kind"}
    refused = first(**place, document_id=ODD, question="q", error="refused", message="HTTP 400: " + "a long word " * 30)
    garbled = first(**place, document_id=f"{DAYS[0]}/1.txt", question="q", error="garbled", message="<html>")
    with told.stores.state.write() as connection:
        found = [failed_again(None, refused), failed_again(None, garbled)]
        replace_all(connection, "notes", "kind", DAYS[0], found)
        record_partition(connection, "notes", DAYS[1], question="q", error="The disk is full.", passes=False)


# Content as real collections have it


def furnished(told: Story, ann: Visitor) -> dict[str, Opened]:
    request = claims(told)
    here = f"/requests/{request.request_id}"
    ann.submit(f"{here}/claim", act="take")
    ann.submit(f"{here}/notes", document=LONG_ID, kind="comment", text=f"Is {UNBROKEN} the right claimant? {ARABIC}")
    release = library(told)
    golden(told, ann)
    run = a_run(told)
    of = {name: f"{here}/document?id={quote(name, safe='')}" for name in document_ids()}
    return {
        "claims": Opened(address=here),
        "claims, filtered": Opened(address=f"{here}?change=relabelled&sort=name"),
        "claims, second page": Opened(address=f"{here}?page=2#documents"),
        "claims, none": Opened(address=f"{here}?q=nothing-like-it"),
        "claims, confirm": Opened(address=here, press="[data-verdict=approve]"),
        "report": Opened(address=of[LONG_ID], open_all=True),
        "report, folded": Opened(address=of[LONG_ID]),
        "arabic": Opened(address=of[f"{DAYS[0]}/arabic.txt"]),
        "changed": Opened(address=of[f"{DAYS[0]}/claim-003.txt"], open_all=True),
        "book": Opened(address=of[BOOK_ID], open_all=True),
        "quarantined": Opened(address=of[f"{DAYS[0]}/broken.pdf"]),
        "lost": Opened(address=of[f"{DAYS[0]}/gone.txt"]),
        "bulk": Opened(address="/", choose=["#select-all"], press="#bulk [data-verdict=approve]"),
        "selected": Opened(address="/", choose=["#select-all"]),
        "library": Opened(address=f"/releases/library/{release}"),
        "library, compared": Opened(address=f"/releases/library/{release}/difference"),
        "library, releases": Opened(address="/releases/library"),
        "library, book": Opened(address=f"/releases/library/{release}/document?id={BOOK_ID}"),
        "library, provenance": Opened(address=f"/explain/library?{urlencode({'id': BOOK_ID})}", open_all=True),
        "library, touched": Opened(
            address=f"/touched/library?{urlencode({'by': 'model', 'value': 'builtin/zero-shot'})}"
        ),
        "library, card": Opened(address=f"/releases/library/{release}/card"),
        "evaluations": Opened(address="/evaluation"),
        "evaluation": Opened(address="/evaluation/library", open_all=True),
        "evaluation, cell": Opened(address=f"/evaluation/library/documents?{in_its_cell(told)}"),
        "evaluation, document": Opened(address=f"/evaluation/library/document?id={BOOK_ID}"),
        "make live": Opened(address="/releases/library", press="form[action$=rollback] button"),
        "golden": Opened(address="/golden"),
        "label": Opened(address="/golden/letters"),
        "rating": Opened(address="/golden/letters/ratings/rated"),
        "held": Opened(address="/held"),
        "held document": Opened(address="/held/letters"),
        "shadows": Opened(address="/shadows"),
        "shadow": Opened(address=f"/shadows/library/{a_shadow(told)}"),
        "run": Opened(address=f"/runs/{LONG_NAME}/{run}"),
        "forbidden": Opened(address="/people/nobody-of-that-name"),
        "keys": Opened(address="/", press="#keys-open"),
        "sign in": Opened(address="/sign-in", signed_out=True),
    }


def document_ids() -> list[str]:
    return [
        LONG_ID,
        BOOK_ID,
        *(f"{DAYS[0]}/{name}" for name in ("arabic.txt", "broken.pdf", "gone.txt", "claim-003.txt")),
    ]


def row(name: str, number: int, **columns: Any) -> dict[str, Any]:
    """Of the frozen file of `claims`: a label of forty, a record and a summary."""
    given = {
        "document_id": f"{DAYS[0]}/{name}", "path": f"{DAYS[0]}/{name}", "kind_label": LABELS[number % 40]["name"],
        "kind_runner_up": LABELS[(number + 1) % 40]["name"], "kind_confidence": 0.31 + number % 60 / 100,
        "kind_model": "builtin/2", "facts_data": json.dumps(FACTS), "facts_model": "mini", "facts_status": "ok",
        "summary_text": None, "summary_model": None, "summary_status": None, "reason": None,
    }  # fmt: skip
    return document(number, **{**given, **columns})


def claims(told: Story) -> SignoffRequest:
    stage = {"name": "kind", "kind": "classify", "labels": LABELS}
    told.project.declare(LONG_NAME, stages=[stage], partitions={"by": "day", "start": DAYS[0], "end": DAYS[0]})
    said = {"summary_text": MARKDOWN, "summary_model": "mini", "summary_status": "ok"}
    rows = [row(f"claim-{n:03}.txt", n, title=f"Claim {n}: {TOPICS[n % 8]}, second notice") for n in range(70)]
    changed = rows[3]
    rows[3] = {**changed, "text": changed["text"].replace("note 3", "claim 3 (revised)", 2), "leaf": "new", **said}
    rows += [
        row("-", 80, document_id=LONG_ID, path=LONG_ID, text=MARKDOWN, title=f"Report on {UNBROKEN} and the dock door",
            kind_evidence="The **dock door** jammed at 14:05.", kind_evidence_start=MARKDOWN.index("The **"),
            kind_rationale="The letter reports damage to goods, names a carrier, and asks for money. " * 2, **said),
        row("arabic.txt", 81, text=f"{ARABIC}\n\n{HEBREW}\n" * 12, title=ARABIC, language="ar", kind_evidence=ARABIC),
        row("-", 82, document_id=BOOK_ID, path=BOOK_ID, text=BOOK, title="Manual of the warehouse",
            kind_evidence="Page 283 of the manual.", kind_evidence_start=BOOK.index("Page 283 of")),
        row("broken.pdf", 83, text=None, status="quarantined", facts_data=None, facts_model=None, facts_status=None,
            kind_label=None, kind_confidence=None, kind_runner_up=None, kind_evidence=None, title=None,
            reason="encrypted: a password is needed to read it"),
    ]  # fmt: skip
    gone = row("gone.txt", 84, text="What readers lose. " * 40, title="An old price list")
    live = [{**changed, "kind_label": LABELS[9]["name"]}, gone, *rows[4:40]]
    folder = snapshot_folder(told.stores.lake.root, LONG_NAME, DAYS[0])
    written_live = write_parquet(folder, _table(live)).name
    passages_live = write_parquet(folder, _table(_passages())).name
    moves = {changed["document_id"]: [{"stage": "kind", "from": LABELS[9]["name"], "to": changed["kind_label"]}]}
    facts = {"documents": 74, "quarantined": 1, "added": 35, "changed": 1, "removed": 1, "relabelled": 1,
             "low_confidence": 30, "failed_gates": 0, "cost_usd": 12.3456}  # fmt: skip
    return asked(
        told.stores, LONG_NAME, DAYS[0], rows, facts=facts, risk=0.72, passages=_passages(),
        added=[each["document_id"] for each in (*rows[:3], *rows[40:73])], changed=[changed["document_id"]],
        relabelled=moves, removed=[gone["document_id"]], unreadable=[f"{DAYS[0]}/broken.pdf"], quarantined=1,
        unchanged=36, cost_usd=12.3456, live_files={"documents_file": written_live, "chunks_file": passages_live},
        live_release=1,
    )  # fmt: skip


def _table(rows: Sequence[Mapping[str, Any]]) -> Any:
    import pyarrow as pa

    return pa.Table.from_pylist([dict(each) for each in rows])


def _passages() -> list[dict[str, Any]]:
    """A passage per page of the book."""
    starts = [BOOK.index(f"Page {n} of the manual") for n in range(1, 301)]
    ends = [*starts[1:], len(BOOK)]
    return [
        {"document_id": BOOK_ID, "chunk_id": f"c{n}", "start": start, "end": end, "page": n, "page_end": n,
         "kind": "text"}
        for n, (start, end) in enumerate(zip(starts, ends, strict=True), start=1)
    ]  # fmt: skip


def library(told: Story) -> int:
    """Two releases of real files, a PDF of many pages among them."""
    project = told.project
    days = {"by": "day", "start": DAYS[0], "end": DAYS[0]}
    stage = {"name": "kind", "kind": "classify", "labels": LABELS}
    for n, text in enumerate((MARKDOWN, f"{ARABIC}\n{HEBREW}\n" * 8, MARKDOWN.replace("dock", "gate"))):
        project.document(f"{DAYS[0]}/{UNBROKEN[: 12 + 20 * n]}-{n}.md", text, "library")
    project.document(BOOK_ID, pdf_of(120), "library")
    names = [path.name for path in (project.root / "collections/library/documents" / DAYS[0]).iterdir()]
    golden = "".join(
        json.dumps({"document": f"{DAYS[0]}/{name}", "label": LABELS[n]["name"]}) + "\n" for n, name in enumerate(names)
    )
    (project.root / "collections/library/golden.jsonl").write_text(golden)
    gate = {"metric": "accuracy", "min": 0.8, "slices": ["language"], "undecided": "warn", "waivable": True}
    declared = {"partitions": days, "stages": [stage], "golden": {"labels": "golden.jsonl"}}
    with suppress(PartitionsFailed):  # a gate stops the first candidate, and is made weaker
        project.refresh(project.declare("library", **declared, gates=[{"metric": "accuracy", "min": 0.9}]))
    collection = project.declare("library", **declared, gates=[gate])
    for text in (MARKDOWN, "Something else was delivered."):
        project.document(f"{DAYS[0]}/note.md", text, "library")
        project.refresh(collection)
        decide(told.stores.state, collection)
        release = publish(collection, told.stores, by="test")
    return release.release.number


def in_its_cell(told: Story) -> str:
    """A cell of the confusion matrix with a document in it."""
    found = newest_evaluation(told.stores, load_collection(told.project.root / "collections", "library"))
    assert found is not None
    wrong = found.mislabelled[0]
    return urlencode({"golden": wrong.golden, "said": wrong.said or "*"})


def pdf_of(pages: int) -> bytes:
    from reportlab.pdfgen.canvas import Canvas

    out = BytesIO()
    canvas = Canvas(out)
    for number in range(1, pages + 1):
        canvas.setFont("Helvetica-Bold", 16)
        canvas.drawString(72, 770, f"Chapter {number // 10 + 1}: deliveries")
        canvas.setFont("Helvetica", 11)
        for line in range(8):
            canvas.drawString(72, 740 - 16 * line, f"Line {line} of page {number}: the carrier keeps a log.")
        canvas.showPage()
    canvas.save()
    return out.getvalue()


def golden(told: Story, ann: Visitor) -> None:
    """A sample of documents waits for labels of forty."""
    hold = {"certified": {"error": 0.05}, "release": "marked", "reviewers": 2}
    stage = {"name": "kind", "kind": "classify", "labels": LABELS, "hold": hold}
    for n in range(12):
        text = (ARABIC, MARKDOWN, f"A pallet of {UNBROKEN} is missing. " * 20)[n % 3]
        told.project.document(f"{DAYS[0]}/{n:02}-letter-from-a-carrier.txt", f"{text}\n{n}", "letters")
    declared = {
        "partitions": {"by": "day", "start": DAYS[0], "end": DAYS[0]},
        "golden": {"review": True},
        "gates": [{"metric": "accuracy", "min": 0.8}],
    }
    collection = told.project.declare("letters", stages=[stage], **declared)
    told.project.refresh(collection)
    ann.submit("/golden", collection="letters", size="8", random_percent="50", opinions="1")
    (told.project.root / "inference.yaml").write_text(
        "endpoints: {judge: {base_url: rehearsal, model: any, free: true}}\n"
    )
    told.project.declare(
        "letters", **{**declared, "stages": [stage, {"name": "rated", "kind": "judge", "of": "kind", "route": "judge"}]}
    )


def a_shadow(told: Story) -> int:
    """Of a prompt with forty labels; what both sides said is long."""
    variants = tuple(VariantSpec(name=name) for name in (f"triage-{UNBROKEN}", "short"))
    spec = ShadowSpec(
        stage="kind", kind="classify", variants=variants, declared_prompt=None, declared_digest="",
        declared_version="1", declared_route="default", sample=200, seed=1, slices=("language=de",), release=1,
    )  # fmt: skip
    moves = tuple(LabelShift(live=LABELS[n]["name"], new=LABELS[39 - n]["name"], documents=9 - n) for n in range(9))
    quality = QualityDifference(
        n=120, live_right=80, new_right=100, better=25, worse=5, difference=20 / 120, low=0.07, high=0.26, level=0.95,
        chance=0.0003, more=None,
    )  # fmt: skip
    side = SidePrice(answers=200, per_document_usd=0.00037, p50_s=0.4, p95_s=1.2)
    slices = (SliceDifference(slice=f"source {UNBROKEN}", documents=40, changed=20, golden=9, better=1, worse=3),)
    money = MoneyRange(low_nusd=10**9, likely_nusd=2 * 10**9, high_nusd=3 * 10**9, calls=12_345, answered=200)
    results = ShadowResults(
        population=12_545, left_out=17,
        verdict=ShadowVerdict(winner="short", said="short is better than what is live."),
        variants=tuple(
            VariantResult(name=each.name, documents=200, changed=45, unanswered=2, moves=moves, quality=quality,
                          slices=slices, live=side, new=side, paid_nusd=74_000_000, reused=3, migration=money)
            for each in variants
        ),
    )  # fmt: skip
    documents = [
        ComparedDocument(
            variant=each.name, document_id=LONG_ID if n == 0 else f"{DAYS[0]}/{n}.txt", partition=DAYS[0],
            is_sampled=True, live_said=LABELS[n]["name"], new_said=None if n == 1 else LABELS[39 - n]["name"],
            live_call="0" * 40, new_call=None if n == 1 else "1" * 40, golden=LABELS[39 - n]["name"],
            why=f"invalid_output: {UNBROKEN}" if n == 1 else None,
        )
        for each in variants
        for n in range(4)
    ]  # fmt: skip
    shadow = records.begin(told.stores.state, "library", spec, "ann")
    return records.finish(told.stores.state, shadow, results, documents).number


def a_run(told: Story) -> str:
    """With many partitions, of which one failed."""
    names = ("documents", "chunks", "embeddings", "kind", "release_candidate")
    run = "0d9f3c1a-run-of-many-partitions"
    moments = [f"{DAYS[0]}T12:{n // 60:02}:{n % 60:02}.000+00:00" for n in range(200)]
    written(
        told.stores.state,
        *(
            ended(
                asset, f"folder-{n:03}/with-a-longer-name", collection=LONG_NAME, run_id=run, calls=12 * place,
                began_at=moments[5 * n + 8 * place], at=moments[5 * n + 8 * place + 8], seconds=8.0,
                cost_usd=0.0123 * place, quarantined=n % 3,
                error="No budget is left: 'everything' allows 5.00 USD per month." if (n, place) == (6, 3) else None,
            )
            for n in range(20)
            for place, asset in enumerate(names)
        ),
    )  # fmt: skip
    return run


# Pictures


def take(found: Gallery, folder: Path, only: Sequence[str]) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for name, wanted in found.pages.items():
            if only and not name.startswith(tuple(only)):
                continue
            context = found.context(browser, viewport={"width": WIDTHS[0], "height": HEIGHT})
            page = context.new_page()
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": HEIGHT})
                found.show(page, wanted)
                for scheme in SCHEMES:
                    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
                    file = folder / f"{name.replace(', ', '-').replace(' ', '_')}-{width}-{scheme}.png"
                    page.screenshot(path=file, full_page=True)
            context.close()
        browser.close()


def main() -> None:
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="gallery-") as folder:
        as_told = tell(Path(folder) / "told")
        with gallery(Path(folder) / "desk", as_told) as found:
            take(found, target, sys.argv[2:])


if __name__ == "__main__":
    main()
