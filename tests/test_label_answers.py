"""Claims about `answer: label`: a label in plain words counts where it is the only one named, else the row says why."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from conftest import Project
from hypothesis import given
from hypothesis import strategies as st
from test_inference_test import CHAT, Page, answering
from test_llm_stages import rows, run
from test_stage_settings import KIND, declare

from ai_assets.collection.errors import CollectionInvalid
from ai_assets.run.errors import PartitionsFailed
from ai_assets.stages.classify.label_text import named_labels

NAMES = ("claim", "report", "credit note", "note")
ALONE: dict[str, Any] = {**KIND, "answer": "label"}
DAY = "2026-10-05"


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("claim", "claim"),
        (" Claim.\n", "claim"),
        ("**REPORT**", "report"),
        ("Label: report", "report"),
        ("This is a report. Yes, a report!", "report"),
        ('{"label": "claim"}', "claim"),
        ("a Credit-Note", "credit note"),
        ("ｃｌａｉｍ", "claim"),
        ("<think>Is it a claim? Or a note?</think>\nreport", "report"),
        ("The label of this document is: Report", "report"),
        ("credit_note", "credit note"),
        ("This is not a claim.", None),
        ("This isn't a claim", None),
        ("Das ist kein report.", None),
        ("The customer writes that the pump broke and wants to hand in a claim", None),
        ("Report the pump in hall 3 to the people who look after it, soon", None),
        ("note or claim", None),
        ("credit note, not a note", None),
        ("claims", None),
        ("reporter", None),
        ("<think>Is it a claim?", None),
        ("I cannot say.", None),
        ("", None),
    ],
)
def test_the_only_label_that_an_answer_names_counts(answer: str, label: str | None) -> None:
    assert named_labels(answer, NAMES).label == label


def test_words_of_a_label_may_be_joined_by_anything() -> None:
    for answer in ("report pump 2", "Report-Pump-2.", "It is report_pump_2"):
        assert named_labels(answer, ("report_pump_2", "claim")).label == "report_pump_2"
    assert named_labels("not spam", ("spam", "not spam")).label == "not spam"


def test_an_exact_label_counts_although_its_words_hold_another() -> None:
    assert named_labels("credit note", NAMES).label == "credit note"
    assert named_labels("A-B", ("A-B", "A B")).label == "A-B"
    assert named_labels("a b", ("A-B", "A B")).names == ("A B", "A-B")


@given(st.text(), st.sampled_from(NAMES))
def test_where_a_label_stands_is_where_it_is_found(around: str, name: str) -> None:
    answer = f"{around} {name}"
    found = named_labels(answer, [name])
    if found.label is not None:
        assert found.label == name
        assert answer[found.start : found.end].casefold() == name


# Through a run


def said(text: str, *, cut: bool = False) -> Page:
    half = len(text) // 2
    tokens = [{"token": part, "logprob": -0.1} for part in (text[:half], text[half:]) if part]
    choice = {
        "message": {"content": text},
        "finish_reason": "length" if cut else "stop",
        "logprobs": {"content": tokens},
    }
    usage = {"prompt_tokens": 10, "completion_tokens": 2}
    return 200, json.dumps({"model": "small", "choices": [choice], "usage": usage})


@contextmanager
def office(
    project: Project, answer: Callable[[list[dict[str, str]]], Page], structured: str = "none"
) -> Iterator[list[dict[str, Any]]]:
    """A model that answers so; what it was sent."""
    asked: list[dict[str, Any]] = []

    def page(body: bytes) -> Page:
        asked.append(json.loads(body))
        return answer(asked[-1]["messages"])

    with answering({CHAT: page}) as server:
        (project.root / "inference.yaml").write_text(
            f"endpoints: {{small: {{base_url: '{server.url}/v1', model: small, free: true,\n"
            f"  structured: {structured}}}}}\n"
            "routes: {default: {endpoints: [small]}}\n"
        )
        project.document(f"{DAY}/one.txt", "The pump in hall 3 broke, and we bill 20.00 for it.")
        yield asked


def row_of(project: Project) -> dict[str, Any]:
    (row,) = rows(project, "kind").values()
    return row


def test_a_label_is_asked_for_by_showing_how_and_read_with_its_probability(project: Project) -> None:
    with office(project, lambda _messages: said("Invoice.")) as asked:
        run(project, declare(project, [ALONE]))
    row = row_of(project)
    assert (row["status"], row["label"], row["confidence_from"]) == ("ok", "invoice", "logprobs")
    assert row["confidence"] == pytest.approx(0.8187, abs=0.001)
    assert (row["rationale"], row["evidence"], row["evidence_found"]) == (None, None, None)
    (body,) = asked
    assert "response_format" not in body
    assert body["max_tokens"] == 32
    shown = [message["content"] for message in body["messages"] if message["role"] == "assistant"]
    assert shown == [label["name"] for label in KIND["labels"]]
    roles = [message["role"] for message in body["messages"]]
    assert roles == ["system", *["user", "assistant"] * len(shown), "user"]


def test_a_server_that_can_be_held_to_choices_is_given_the_labels(project: Project) -> None:
    with office(project, lambda _messages: said("invoice"), "vllm_choice") as asked:
        run(project, declare(project, [ALONE]))
    assert asked[0]["structured_outputs"] == {"choice": [label["name"] for label in KIND["labels"]]}
    assert row_of(project)["label"] == "invoice"


def test_an_answer_that_names_several_labels_is_asked_once_more(project: Project) -> None:
    first, second = (label["name"] for label in KIND["labels"][:2])

    def answer(messages: list[dict[str, str]]) -> Page:
        return said(first) if "names several labels" in messages[-1]["content"] else said(f"{second} or {first}")

    with office(project, answer) as asked:
        run(project, declare(project, [ALONE]))
    assert row_of(project)["label"] == first
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{0} or {1}", "invalid_output: the answer names several labels ({0}, {1})"),
        ("I am a helpful assistant.", "invalid_output: the answer names no label of this stage"),
        ("This is not an {0}.", "invalid_output: the answer names no label of this stage (it says 'not' before '{0}')"),
    ],
)
def test_where_a_second_answer_is_no_better_the_row_says_why(text: str, reason: str, project: Project) -> None:
    names = [label["name"] for label in KIND["labels"]]
    with office(project, lambda _messages: said(text.format(*names))) as asked, pytest.raises(PartitionsFailed):
        run(project, declare(project, [ALONE]))
    row = row_of(project)
    assert (row["status"], row["label"], row["reason"]) == ("quarantined", None, reason.format(*names))
    assert row["raw"] == text.format(*names)
    assert len(asked) == 2


def test_a_label_counts_although_the_model_went_on_talking_to_the_limit(project: Project) -> None:
    with office(project, lambda _messages: said("invoice, because it says what is due and", cut=True)):
        run(project, declare(project, [ALONE]))
    assert row_of(project)["label"] == "invoice"


def test_the_built_in_classifier_has_no_such_setting(project: Project) -> None:
    alone = {name: value for name, value in ALONE.items() if name != "route"}
    with pytest.raises(CollectionInvalid, match="'answer' has no meaning without a 'route'"):
        declare(project, [alone])


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("Report", "report"), "labels 'Report' and 'report' read the same with 'answer: label'"),
        (("a b", "a  b"), "labels 'a b' and 'a  b' read the same"),
        (("a_b", "a-b"), "rename one"),
        ((" ", "b"), "a label is blank"),
    ],
)
def test_labels_that_no_answer_tells_apart_are_refused(project: Project, names: tuple[str, ...], says: str) -> None:
    labels = [{"name": name, "description": "A document of one kind."} for name in names]
    with pytest.raises(CollectionInvalid, match=says):
        declare(project, [{**ALONE, "labels": labels}])
    declare(project, [{**KIND, "labels": labels}])
