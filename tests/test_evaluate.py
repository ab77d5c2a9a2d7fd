"""Golden files, scores and gates: hand-computed cases, and claims that hold for any input."""

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ai_assets.base.errors import UserError
from ai_assets.evaluation.errors import GoldenError
from ai_assets.evaluation.gates import Gate, GateInputs, judge
from ai_assets.evaluation.scoring import (
    Score,
    confusion_markdown,
    label_scores,
    read_golden_labels,
    read_golden_queries,
    retrieval_scores,
)
from ai_assets.evaluation.verdict import GateVerdict

LABELS = ("invoice", "contract", "letter")


def golden(path: Path, *lines: object) -> Path:
    file = path / "golden.jsonl"
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return file


# --- golden files


def test_golden_labels_are_read_in_order_past_blank_lines_bom_and_windows_line_ends(tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    file.write_bytes(
        b'\xef\xbb\xbf{"document": "a.md", "label": "invoice"}\r\n\r\n'
        b'{"document": "\xc3\xa4 b.md", "label": "letter"}\r\n'
    )
    assert [(i.document, i.label) for i in read_golden_labels(file, LABELS)] == [
        ("a.md", "invoice"),
        ("ä b.md", "letter"),
    ]


def test_golden_queries_keep_their_kind(tmp_path: Path) -> None:
    file = golden(
        tmp_path,
        {"query": " how long? ", "documents": ["a", "b"], "kind": "terms"},
        {"query": "who", "documents": ["c"]},
    )
    first, second = read_golden_queries(file)
    assert (first.query, first.documents, first.kind) == ("how long?", ("a", "b"), "terms")
    assert second.kind is None


def test_an_empty_golden_file_holds_nothing(tmp_path: Path) -> None:
    assert read_golden_labels(golden(tmp_path), LABELS) == ()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"document": "b", "label": "invoce"}, "unknown label 'invoce'; did you mean 'invoice'?"),
        ({"document": "b", "label": "zzz"}, "unknown label 'zzz'; known here: contract, invoice, letter"),
        ({"document": "a", "label": "letter"}, "'a' is letter here, but invoice on line 1"),
        ({"document": "a", "label": "invoice"}, "repeats line 1: 'a' is invoice"),
        ({"document": "b", "labl": "invoice"}, "unknown key 'labl'; did you mean 'label'?"),
        ({"document": "b"}, "'label' is missing"),
        ({"document": 3, "label": "invoice"}, "'document': Input should be a valid string (found 3)"),
        ({"document": "", "label": "invoice"}, "'document'"),
        ('{"document": "b", "label": "invoice", "label": "letter"}', "a key is given twice"),
        ("['b']", "not a JSON object on one line"),
        ('["b"]', 'found ["b"]'),
        ("[" * 100_000, "not a JSON object"),
    ],
)
def test_a_wrong_golden_label_is_named_with_file_and_line(tmp_path: Path, line: object, message: str) -> None:
    file = golden(tmp_path, {"document": "a", "label": "invoice"}, line)
    with pytest.raises(GoldenError) as error:
        read_golden_labels(file, LABELS)
    assert str(error.value).startswith(f"{file}:2: ")
    assert message in str(error.value)
    assert isinstance(error.value, UserError)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"query": "  ", "documents": ["a"]}, "'query'"),
        ({"query": "who", "documents": []}, "'documents'"),
        ({"query": "who", "documents": "a"}, "'documents'"),
        ({"query": "who", "documents": ["a", "a"]}, "names the document 'a' twice"),
        ({"query": "How  LONG?", "documents": ["a"]}, "repeats the query of line 1"),
        ({"query": "How  LONG?", "documents": ["b"]}, "has other documents here than on line 1"),
        ({"query": "who", "documents": ["a"], "kinds": "x"}, "did you mean 'kind'?"),
    ],
)
def test_a_wrong_golden_query_is_named_with_file_and_line(tmp_path: Path, line: object, message: str) -> None:
    file = golden(tmp_path, {"query": "how long?", "documents": ["a"]}, line)
    with pytest.raises(GoldenError) as error:
        read_golden_queries(file)
    assert str(error.value).startswith(f"{file}:2: ")
    assert message in str(error.value)


def test_bytes_that_are_no_text_and_a_file_that_is_absent_are_golden_errors(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_bytes(b'\n{"document": "\xff", "label": "invoice"}')
    with pytest.raises(GoldenError, match=r"bad\.jsonl:2: not UTF-8 text \(byte 14"):
        read_golden_labels(tmp_path / "bad.jsonl", LABELS)
    with pytest.raises(GoldenError, match=r"none\.jsonl: cannot be read: No such file"):
        read_golden_queries(tmp_path / "none.jsonl")


# --- search


def test_retrieval_scores_by_hand() -> None:
    scores = retrieval_scores(
        [
            (["a", "x", "b"], {"a", "b"}),  # recall@1 1/2, @5 1; rr 1; dcg 1 + 1/2, ideal 1 + 1/log2(3)
            (["x", "y", "c"], {"c"}),  # recall@1 0, @5 1; rr 1/3; ndcg 1/log2(4)
            (["x"], {"d"}),  # nothing
        ]
    )
    assert scores.n == 3
    assert scores.recall == {1: pytest.approx(0.5 / 3), 5: pytest.approx(2 / 3), 10: pytest.approx(2 / 3)}
    assert scores.mrr == pytest.approx((1 + 1 / 3) / 3)
    assert scores.ndcg_at_10 == pytest.approx((1.5 / (1 + 1 / math.log2(3)) + 0.5) / 3)


def test_a_document_found_by_two_chunks_counts_at_its_first_place() -> None:
    twice = retrieval_scores([(["x", "x", "x", "a", "a"], {"a"})], k=(2,))
    assert (twice.recall[2], twice.mrr) == (1.0, 0.5)


def test_what_is_found_after_the_tenth_place_counts_for_mrr_only() -> None:
    late = retrieval_scores([([f"x{i}" for i in range(10)] + ["a"], {"a"})])
    assert (late.recall[10], late.ndcg_at_10, late.mrr) == (0.0, 0.0, 1 / 11)


def test_without_queries_every_score_is_unknown() -> None:
    none = retrieval_scores([])
    assert (none.n, none.mrr, none.ndcg_at_10, dict(none.recall)) == (0, None, None, {1: None, 5: None, 10: None})


def test_a_query_without_relevant_documents_and_a_depth_of_zero_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[1\]"):
        retrieval_scores([(["a"], {"a"}), (["a"], set())])
    with pytest.raises(ValueError, match="depth of 1 or more"):
        retrieval_scores([], k=(0,))


documents = st.sampled_from([f"d{i}" for i in range(15)])
query_results = st.lists(st.tuples(st.lists(documents, max_size=20), st.sets(documents, min_size=1)), min_size=1)


@given(query_results)
def test_retrieval_scores_are_shares_and_recall_grows_with_depth(
    results: list[tuple[list[str], set[str]]],
) -> None:
    scores = retrieval_scores(results)
    values = [*scores.recall.values(), scores.mrr, scores.ndcg_at_10]
    assert all(value is not None and 0 <= value <= 1 + 1e-12 for value in values)
    for shallow, deep in itertools.pairwise(scores.recall.values()):
        assert shallow is not None
        assert deep is not None
        assert shallow <= deep + 1e-12


@given(st.sets(documents, min_size=1), st.permutations([f"d{i}" for i in range(15)]))
def test_the_best_ranking_has_full_marks_and_no_other_is_better(relevant: set[str], ranking: Sequence[str]) -> None:
    best = retrieval_scores([([*sorted(relevant), *(d for d in ranking if d not in relevant)], relevant)])
    other = retrieval_scores([(ranking, relevant)])
    assert best.mrr == 1.0
    assert best.ndcg_at_10 == pytest.approx(1.0)
    assert other.ndcg_at_10 is not None
    assert other.ndcg_at_10 <= 1 + 1e-12


@given(query_results)
def test_each_query_counts_the_same(results: list[tuple[list[str], set[str]]]) -> None:
    whole, doubled = retrieval_scores(results), retrieval_scores([*results, *results])
    assert doubled.n == 2 * whole.n
    assert doubled.mrr == pytest.approx(whole.mrr)


# --- labels


def test_label_scores_by_hand() -> None:
    truth = {"1": "invoice", "2": "invoice", "3": "invoice", "4": "contract", "5": "contract"}
    guess = {"1": "invoice", "2": "contract", "3": None, "4": "contract", "9": "letter"}
    scores = label_scores(truth, guess, LABELS)
    assert (scores.n, scores.accuracy) == (5, 0.4)
    invoice, contract, letter = scores.per_label
    assert (invoice.precision, invoice.recall, invoice.f1, invoice.support) == (1.0, 1 / 3, 0.5, 3)
    assert (contract.precision, contract.recall, contract.f1, contract.support) == (0.5, 0.5, 0.5, 2)
    assert (letter.precision, letter.recall, letter.f1, letter.support) == (None, None, None, 0)
    assert scores.macro_f1 == 0.5
    assert scores.confusion.counts == ((1, 1, 0, 1), (0, 1, 0, 1), (0, 0, 0, 0))


def test_a_label_that_is_predicted_but_never_golden_pulls_macro_f1_down() -> None:
    scores = label_scores({"1": "invoice", "2": "invoice"}, {"1": "invoice", "2": "letter"}, LABELS)
    assert scores.macro_f1 == pytest.approx((2 / 3 + 0) / 2)


def test_a_prediction_that_is_no_longer_declared_counts_as_missing() -> None:
    scores = label_scores({"1": "invoice"}, {"1": "receipt"}, LABELS)
    assert (scores.accuracy, scores.confusion.counts[0]) == (0.0, (0, 0, 0, 1))


def test_without_golden_documents_every_label_score_is_unknown() -> None:
    scores = label_scores({}, {"1": "invoice"}, LABELS)
    assert (scores.n, scores.accuracy, scores.macro_f1) == (0, None, None)
    assert {score.f1 for score in scores.per_label} == {None}


def test_undeclared_golden_labels_and_repeated_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="not declared"):
        label_scores({"1": "receipt"}, {}, LABELS)
    with pytest.raises(ValueError, match="declared twice"):
        label_scores({}, {}, ("a", "a"))


labelled = st.dictionaries(
    st.integers(0, 30).map(str), st.tuples(st.sampled_from(LABELS), st.sampled_from([*LABELS, None]))
)


@given(labelled)
def test_label_scores_agree_with_counting(pairs: dict[str, tuple[str, str | None]]) -> None:
    truth = {key: true for key, (true, _) in pairs.items()}
    scores = label_scores(truth, {key: guess for key, (_, guess) in pairs.items()}, LABELS)
    cells = [count for row in scores.confusion.counts for count in row]
    assert sum(cells) == scores.n == len(pairs)
    right = sum(true == guess for true, guess in pairs.values())
    assert scores.accuracy == (right / len(pairs) if pairs else None)
    for score in scores.per_label:
        assert score.support == sum(true == score.label for true in truth.values())
        if score.precision and score.recall:
            harmonic = 2 * score.precision * score.recall / (score.precision + score.recall)
            assert score.f1 == pytest.approx(harmonic)


@given(labelled.filter(bool))
def test_perfect_predictions_have_full_marks_whatever_is_golden(pairs: dict[str, tuple[str, str | None]]) -> None:
    truth = {key: true for key, (true, _) in pairs.items()}
    scores = label_scores(truth, truth, LABELS)
    assert (scores.accuracy, scores.macro_f1) == (1.0, 1.0)


def test_the_confusion_table_shows_the_labels_that_occur() -> None:
    scores = label_scores({"1": "a|b", "2": "a|b", "3": "c"}, {"1": "a|b", "2": "c"}, ("a|b", "c", "d"))
    assert confusion_markdown(scores.confusion).splitlines() == [
        "| true \\ predicted | a\\|b | c | *missing* |",
        "| --- | ---: | ---: | ---: |",
        "| a\\|b | **1** | 1 | 0 |",
        "| c | 0 | 0 | 1 |",
    ]


# --- gates


def one(gate: Gate, *scores: Score, pending: int = 0, absent: int = 0) -> GateVerdict:
    [result] = judge([gate], GateInputs(scores=scores, pending=pending, absent=absent))
    return result


def score(metric: str, value: float | None, n: int, stage: str | None = None, scope: str = "corpus") -> Score:
    return Score(metric=metric, scope="corpus" if scope == "corpus" else "partition", stage=stage, value=value, n=n)


ACCURACY = Gate(metric="accuracy", min=0.8)


@pytest.mark.parametrize(
    ("value", "n", "pending", "absent", "passed", "message"),
    [
        (0.8, 10, 0, 0, True, "accuracy 0.8 reaches the minimum 0.8 (n = 10)"),
        (21 / 22, 22, 0, 0, True, "accuracy 0.955 reaches the minimum 0.8 (n = 22)"),
        (0.79987, 10, 0, 0, False, "accuracy 0.7999 is below the minimum 0.8 (n = 10)"),
        (0.75, 4, 3, 2, False, "accuracy 0.75 is below the minimum 0.8 (n = 4; 3 more pending; 2 not in the source)"),
        (None, 0, 7, 2, True, "not judged: accuracy (minimum 0.8), n = 0; 7 golden documents wait for their partition"),
        (None, 0, 0, 44, False, "accuracy (minimum 0.8), n = 0: none of the 44 golden documents exists in the source"),
        (None, 0, 0, 0, False, "accuracy (minimum 0.8), n = 0: there are no golden documents to judge by"),
        (None, 5, 0, 0, False, "accuracy (minimum 0.8) has no value (n = 5)"),
    ],
)
def test_a_gate_says_metric_value_minimum_and_n(
    value: float | None, n: int, pending: int, absent: int, passed: bool, message: str
) -> None:
    result = one(ACCURACY, score("accuracy", value, n, "type"), pending=pending, absent=absent)
    assert (result.passed, result.value, result.n, result.sentence) == (passed, value, n, message)


def test_a_gate_without_a_score_waits_or_fails_like_one_over_nothing() -> None:
    mrr = Gate(metric="mrr", min=0.5)
    assert one(mrr, score("accuracy", 1.0, 9), pending=3).sentence.startswith("not judged: mrr")
    failed = one(mrr, absent=3)
    assert (failed.passed, failed.value, failed.n) == (False, None, 0)
    assert "none of the 3 golden documents exists" in failed.sentence


def test_a_gate_on_one_of_several_stages_needs_its_name() -> None:
    scores = (score("accuracy", 0.9, 5, "type"), score("accuracy", 0.1, 5, "topic"))
    unclear = one(ACCURACY, *scores)
    assert (unclear.passed, unclear.sentence) == (False, "accuracy: 2 scores (topic, type); name one with 'stage:'")
    assert one(ACCURACY.model_copy(update={"stage": "type"}), *scores).passed
    named = one(ACCURACY.model_copy(update={"stage": "topic"}), *scores)
    assert named.sentence == "accuracy of topic 0.1 is below the minimum 0.8 (n = 5)"


def test_the_corpus_is_judged_before_the_partition() -> None:
    scores = (score("accuracy", 0.1, 2, "type", "partition"), score("accuracy", 0.9, 50, "type"))
    assert one(ACCURACY, *scores).n == 50
    assert one(ACCURACY, scores[0]).n == 2


def test_gates_are_judged_in_order() -> None:
    gates = [Gate(metric="mrr", min=0.5), ACCURACY]
    results = judge(gates, GateInputs(scores=[score("accuracy", 1, 1), score("mrr", 0, 1)], pending=0, absent=0))
    assert [(r.name, r.verdict) for r in results] == [("mrr", "failed"), ("accuracy", "passed")]


@pytest.mark.parametrize("bad", [{"min": 1.5}, {"min": -0.1}, {"min": "nan"}, {"min": None}, {"minimum": 0.5}])
def test_a_gate_that_cannot_be_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Gate.model_validate({"metric": "mrr", "min": 0.5, **bad})


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))
def test_a_gate_never_passes_below_its_minimum_or_over_nothing(
    value: float, least: float, n: int, pending: int, absent: int
) -> None:
    result = one(Gate(metric="mrr", min=least), score("mrr", value if n else None, n), pending=pending, absent=absent)
    assert result.passed is (value >= least if n else pending > 0)
