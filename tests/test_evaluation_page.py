"""Claims about the evaluation page: what was stored is shown, a cell leads to its documents, plots are well-formed."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from conftest import STAGE, Project, project_at
from desks import Visitor, desk_of, served
from signing import decide, known
from test_charts import drawn

from ai_assets.desk.score_charts import ScorePoint, score_line
from ai_assets.evaluation.verdict import Interval
from ai_assets.run.evaluated import EVALUATION, evaluated_partitions
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
    assert page.count('<circle class="dot"') == 2 * 2 + 3  # two metrics, two releases; all documents and two slices
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
    vic.http.close()
