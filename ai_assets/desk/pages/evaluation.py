"""The evaluation of a collection: scores over releases, slices, the confusion matrix and the documents behind it."""

from collections.abc import Sequence

from markupsafe import Markup
from starlette.requests import Request as HttpRequest
from starlette.responses import RedirectResponse, Response

from ai_assets.desk import evaluation_query
from ai_assets.desk.context import Desk
from ai_assets.desk.evaluation_query import MISSING, EvaluationView, MetricHistory
from ai_assets.desk.golden_items import golden_item
from ai_assets.desk.pages.form import person_of
from ai_assets.desk.pages.rendering import render
from ai_assets.desk.reliability_chart import in_words, reliability_chart
from ai_assets.desk.score_charts import score_line
from ai_assets.desk.slice_charts import SliceMark, slice_lines
from ai_assets.storage.state import storable

MOST_CHARTS = 8


def overview(http: HttpRequest) -> Response:
    lines = evaluation_query.overview(Desk.of(http), person_of(http))
    if len(lines) == 1:
        return RedirectResponse(f"/evaluation/{lines[0].collection}", 303)
    return render(http, "evaluations.html", {"lines": lines})


def page(http: HttpRequest) -> Response:
    view = evaluation_query.evaluation_view(Desk.of(http), person_of(http), http.path_params["collection"])
    charts = [
        (each, score_line(f"score-{place}", each.name, _finding(each), each.points))
        for place, each in enumerate(view.history[:MOST_CHARTS])
        if len(each.points) > 1
    ]
    slices = slice_lines("slices", "Right labels by slice", _worst(view.marks), view.marks) if view.marks else None
    return render(
        http,
        "evaluation.html",
        {
            "view": view,
            "charts": charts,
            "slices": slices,
            "missing": MISSING,
            "reliability_plot": _reliability_plot(view),
        },
    )


def _reliability_plot(view: EvaluationView) -> Markup | None:
    found = view.evaluation.reliability if view.evaluation else None
    if not found or not found["bins"]:
        return None
    finding = " ".join(f"{in_words(each)}." for each in found["bins"])
    return reliability_chart("reliability-plot", "Share of right labels by confidence", finding, found)


def _worst(marks: Sequence[SliceMark]) -> str:
    return "; ".join(f"{each.name}: {each.in_words}" for each in marks) + "."


def _finding(history: MetricHistory) -> str:
    """What the plot shows, in a sentence."""
    first, last = history.points[0], history.points[-1]
    moved = last.value - first.value
    if abs(moved) < 0.0005:
        return f"{last.in_words}; as release {first.release}."
    return f"{last.in_words}; {abs(moved):.3f} {'more' if moved > 0 else 'less'} than release {first.release}."


def documents(http: HttpRequest) -> Response:
    name, given = http.path_params["collection"], http.query_params
    golden, said = (storable(given.get(key)) or "" for key in ("golden", "said"))
    found, rows, count = evaluation_query.cell_documents(Desk.of(http), person_of(http), name, golden, said)
    context = {"collection": name, "golden": golden, "label": None if said == MISSING else said, "rows": rows,
               "count": count, "found": found}  # fmt: skip
    return render(http, "evaluation_documents.html", context)


def document(http: HttpRequest) -> Response:
    return document_page(http, storable(http.query_params.get("id")) or "")


def document_page(http: HttpRequest, asked: str, *, problem: str | None = None, status_code: int = 200) -> Response:
    name, desk, person = http.path_params["collection"], Desk.of(http), person_of(http)
    found = evaluation_query.judged_text(desk, person, name, asked)
    done = "Recorded. The next run measures with it." if http.query_params.get("done") and not problem else None
    context = {
        "collection": name, "found": found, "missing": MISSING, "problem": problem, "done": done,
        "item": golden_item(desk, person, name, asked, found.digest),
    }  # fmt: skip
    return render(http, "evaluation_document.html", context, status_code)
