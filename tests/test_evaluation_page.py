"""Claims about the evaluation page: what was stored is shown, a cell leads to its documents, plots are well-formed."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
from conftest import STAGE, Project, project_at
from desks import Visitor, desk_of, served
from signing import decide, known
from test_charts import drawn

from ai_assets.collection.loading import load_collection
from ai_assets.desk.reliability_chart import reliability_chart
from ai_assets.desk.score_charts import ScorePoint, score_line
from ai_assets.evaluation.reliability import reliability_markdown
from ai_assets.evaluation.verdict import Interval
from ai_assets.run.evaluated import EVALUATION, evaluated_partitions
from ai_assets.signoff import audit, golden_labels, verification
from ai_assets.signoff.publication import publish

DAY = "2026-10-05"
GOLDEN = {0: "incident", 1: "invoice", 2: "incident", 3: "invoice", 4: "incident", 5: "invoice"}


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Two releases, judged by labels of six documents."""
    with pytest.MonkeyPatch.context() as patch:
        made = project_at(tmp_path_factory.mktemp("judged"), patch)
        made.documents(per_day=3, days=2)
        golden = made.root / "collections" / "notes" / "golden.jsonl"
        golden.write_text("".join(
            json.dumps({"document": f"2026-10-{5 + n // 3:02d}/{n}.txt", "label": label}) + "\n"
            for n, label in GOLDEN.items()
        ))  # fmt: skip
        slices = {"metric": "accuracy", "min": 0.1, "slices": ["language", "source"], "slice_documents": 5,
                  "undecided": "warn", "waivable": True}  # fmt: skip
        notes = made.declare(stages=[dict(STAGE)], golden={"labels": "golden.jsonl"}, gates=[slices])
        stores = made.stores()
        known(stores.state)
        known(stores.state, "vic", "viewer", "notes")
        known(stores.state, "otto", "viewer", "other")
        known(stores.state, "rita", "reviewer", "notes")
        for text in ("A leak flooded the hall. The cause was a broken valve.", "A fire in the hall, and its cause."):
            made.edit(notes, "2026-10-06/4.txt", text)
            decide(stores.state, notes)
            publish(notes, stores, by="test")
        yield made


@pytest.fixture(scope="module")
def url(judged: Project) -> Iterator[str]:
    with served(desk_of(judged)) as running:
        yield running.url


def seen(url: str, name: str) -> Visitor:
    found = Visitor(url)
    found.sign_in(name)
    return found


def test_the_page_shows_scores_releases_slices_the_matrix_and_leads_to_the_documents(url: str) -> None:
    vic = seen(url, "vic")
    page = vic.get("/evaluation").text
    assert "Over releases" in page
    assert page.count("<title>Release ") == 2 * 2  # two metrics, two releases
    assert '<polygon class="band"' in page
    assert "language en" in page
    assert "golden=incident&amp;said=" in page
    cell = vic.get("/evaluation/notes/documents?golden=incident&said=incident").text
    assert "4.txt" in cell
    document = vic.get("/evaluation/notes/document?id=2026-10-06/4.txt").text
    assert "A fire in the hall, and its cause." in document
    assert "golden: incident" in document
    assert vic.get("/evaluation/notes/document?id=2026-10-05/none.txt").status_code == 404
    assert vic.get("/evaluation/notes/documents?golden=incident&said=wombat").status_code == 404
    vic.http.close()


def test_who_may_not_see_the_collection_learns_nothing_of_it(url: str) -> None:
    otto = seen(url, "otto")
    for path in ("/evaluation/notes", "/evaluation/notes/documents?golden=incident&said=incident",
                 "/evaluation/notes/document?id=2026-10-06/4.txt", "/releases/notes/1/card",
                 "/releases/notes/1/card.json"):  # fmt: skip
        answer = otto.get(path)
        assert (answer.status_code, "4.txt" in answer.text, "incident" in answer.text.replace("said=incident", "")) == (
            404, False, False,
        )  # fmt: skip
    assert "notes" not in otto.get("/evaluation").text
    otto.http.close()


def test_the_card_is_on_the_desk_and_its_download_is_what_the_chain_has(url: str, judged: Project) -> None:
    from ai_assets.signoff.release_cards import card_of

    vic = seen(url, "vic")
    kept = card_of(judged.stores(), "notes", 2)
    assert vic.get("/releases/notes/2/card.json").text == kept.text
    assert kept.digest in vic.get("/releases/notes/2/card").text
    assert '<h2 id="part-1">Known limits</h2>' in vic.get("/releases/notes/2/card").text
    assert vic.get("/releases/notes/2/card.md").text.startswith("# notes, release 2")
    vic.http.close()


@pytest.mark.parametrize("values", [[0.5], [0.91, 0.95], [0.2, 1.0, 0.0], [12.0, 15.5]])
def test_a_plot_holds_its_points_and_bands_and_says_them(values: list[float]) -> None:
    points = [
        ScorePoint(
            release=n, value=value, n=9, interval=Interval(low=value * 0.9, high=max(value, min(value * 1.1, 1)))
        )
        for n, value in enumerate(values, start=1)
    ]
    svg = drawn(score_line("s", '"<b>', "finding", points))
    dots = [each for each in svg.iter() if each.tag.endswith("circle")]
    assert [next(iter(dot)).text for dot in dots] == [point.in_words for point in points]
    assert all(0 <= float(dot.attrib["cy"]) <= 190 for dot in dots)
    assert all(0 < float(dot.attrib["cx"].rstrip("%")) < 100 for dot in dots)
    assert len([each for each in svg.iter() if each.tag.endswith("polygon")]) == len(points) - 1
    ups = [float(dot.attrib["cy"]) for dot in dots]
    assert sorted(range(len(ups)), key=lambda n: -ups[n]) == sorted(range(len(ups)), key=lambda n: values[n])


def test_bins_of_confidence_are_a_table_where_the_evaluation_has_them(url: str, judged: Project) -> None:
    vic, lake = seen(url, "vic"), judged.stores().lake
    with judged.stores().state.read() as connection:
        newest = evaluated_partitions(connection, "notes")[0]
    manifest = lake.manifest("notes", EVALUATION, newest)
    assert manifest is not None
    path = lake.folder_of(manifest) / "manifest.json"
    bins = [{"low": 0.6, "high": 0.7, "n": 5, "confidence": 0.654, "right": 0.417}]
    found = {"n": 5, "ece": 0.237, "by_chance": 0.1, "bins": bins}
    kept = path.read_bytes()
    try:
        path.write_bytes(replace(manifest, stats={**manifest.stats, "reliability": found}).encoded())
        page = vic.get("/evaluation/notes").text
    finally:
        path.write_bytes(kept)
    assert "are 0.237 apart on average" in page
    assert "0.6 to 0.7" in page
    assert "0.417" in page
    assert '<line class="ideal"' in page
    assert "Confidence 0.654 on average: 0.417 right" in page
    vic.http.close()


@pytest.mark.parametrize("right", [0, 3, 8])
def test_the_plot_of_confidence_has_a_point_for_each_bin_in_its_interval(right: int) -> None:
    bins = [{"low": 0.9, "high": 1.0, "n": 8, "confidence": 0.95, "right": right / 8},
            {"low": 0.2, "high": 0.3, "n": 2, "confidence": 0.25, "right": 0.5}]  # fmt: skip
    svg = drawn(reliability_chart("r", '"<b>', "finding", {"n": 10, "bins": bins}))
    dots = [each for each in svg.iter() if each.tag.endswith("circle")]
    whiskers = [each for each in svg.iter() if each.attrib.get("class") == "whisker"]
    assert [dot.attrib["cx"] for dot in dots] == ["95%", "25%"]
    assert float(dots[0].attrib["cy"]) == pytest.approx(190 * (1 - right / 8), abs=0.1)
    assert float(dots[0].attrib["r"]) > float(dots[1].attrib["r"])
    for dot, line in zip(dots, whiskers, strict=True):
        assert float(line.attrib["y1"]) <= float(dot.attrib["cy"]) <= float(line.attrib["y2"])


def test_the_plot_in_letters_is_as_long_as_the_share_and_marks_the_confidence() -> None:
    bins = [{"low": 0.7, "high": 0.8, "n": 8, "confidence": 0.75, "right": 0.5}]
    [line] = reliability_markdown({"bins": bins}).splitlines()[1:-1]
    bar = line.split("  ")[1]
    assert (len(bar), bar.count("█"), bar.index("|")) == (40, 20, 30)
    assert line.endswith("0.500 right, confidence 0.750, n = 8")


def acts_on(visitor: Visitor, document: str, **fields: str) -> httpx.Response:
    page = visitor.get(f"/evaluation/notes/document?id={document}").text
    digest = re.search(r'name="digest" value="(\w+)"', page)
    found = {"document": document, "from": "document", "digest": digest[1] if digest else "", **fields}
    return visitor.submit("/golden/notes/item", **found)


def in_force(judged: Project) -> golden_labels.GoldenInForce:
    with judged.stores().state.read() as connection:
        return golden_labels.in_force(connection, load_collection(judged.root / "collections", "notes"))


def test_a_reviewer_retires_and_disputes_golden_items_and_the_chain_has_both(url: str, judged: Project) -> None:
    rita, name = seen(url, "rita"), "2026-10-06/4.txt"
    wordless = acts_on(rita, name, act="retire", reason=" ")
    assert (wordless.status_code, "needs a reason" in wordless.text) == (400, True)
    assert "retired</span> by rita: two reports in one" in acts_on(
        rita, name, act="retire", reason="two reports in one"
    ).text  # fmt: skip
    assert set(in_force(judged).retired) == {name}
    overview = rita.get("/golden").text
    assert "1 golden item retired" in overview
    assert "retired by rita: two reports in one" in overview
    acts_on(rita, name, act="back")
    assert not in_force(judged).retired
    changed = acts_on(rita, name, act="dispute", label="invoice", reason="it bills", digest="0" * 64)
    assert (changed.status_code, "has changed since it was shown" in changed.text) == (400, True)
    unknown = acts_on(rita, name, act="dispute", label="invoyce", reason="it bills")
    assert "did you mean" in unknown.text
    assert "rita says <strong><bdi>invoice" in acts_on(rita, name, act="dispute", label="invoice", reason="bills").text
    given = in_force(judged).agreed[name]
    assert (given.label, given.authors, given.stratum) == ("invoice", ("rita",), "chosen")
    with judged.stores().state.read() as connection:
        told = [(each.actor, each.subject["answer"]) for each in audit.select(connection, actions=["labelled"])]
    assert sorted(told) == [("rita", "label"), ("rita", "retired"), ("rita", "withdrawn")]
    verification.verify(judged.stores().state)
    rita.http.close()


def test_the_api_has_the_same_for_golden_documents_with_the_same_rights(url: str, judged: Project) -> None:
    rita, vic, otto = (seen(url, name) for name in ("rita", "vic", "otto"))
    here, act, name = "/golden/notes/document", "/golden/notes/item", "2026-10-05/2.txt"
    shown = rita.http.get(f"/api{here}", params={"id": name}).json()
    assert (shown["document_id"], shown["golden"], shown["said"], shown["retired"]) == (name, GOLDEN[2], [], None)
    retired = rita.post(act, {"document_id": name, "act": "retire", "reason": "two reports in one"})
    assert retired.json() == {"said": f"{name} is retired: it judges nothing from the next run on."}
    assert rita.http.get(f"/api{here}", params={"id": name}).json()["retired"] == "two reports in one"
    assert rita.post(act, {"document_id": name, "act": "back"}).status_code == 200
    other = next(label for label in shown["labels"] if label != shown["golden"])
    disputing = {"document_id": name, "act": "dispute", "label": other, "reason": "it bills", "digest": shown["digest"]}
    assert rita.post(act, disputing).status_code == 200
    assert rita.post(act, {**disputing, "digest": "0" * 64}).status_code == 400
    said = vic.http.get(f"/api{here}", params={"id": name}).json()["said"]
    assert [(each["author"], each["label"], each["note"]) for each in said] == [("rita", other, "it bills")]
    assert vic.post(act, {**disputing, "act": "retire"}).status_code == 403
    assert otto.post(act, disputing).status_code == otto.http.get(f"/api{here}?id={name}").status_code == 404
    assert rita.http.get(f"/api{here}?id=nowhere.txt").status_code == 404
    stops = "/api/evaluation/notes/stops"
    assert (vic.http.get(stops).json(), otto.get(stops).status_code) == ([], 404)
    for each in (rita, vic, otto):
        each.http.close()


def test_who_may_not_review_sees_what_was_said_and_no_form(url: str, judged: Project) -> None:
    vic, otto, name = seen(url, "vic"), seen(url, "otto"), "2026-10-05/1.txt"
    page = vic.get(f"/evaluation/notes/document?id={name}").text
    assert "The golden file says" in page
    assert 'action="/golden/notes/item"' not in page
    assert "take the role reviewer in notes" in page
    assert acts_on(vic, name, act="retire", reason="because").status_code == 403
    assert acts_on(otto, name, act="retire", reason="because").status_code == 404
    assert name not in in_force(judged).retired
    for each in (vic, otto):
        each.http.close()
