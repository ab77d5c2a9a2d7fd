"""What makes one ranking of two: words that say something, and nothing that depends on chance."""

from ai_assets.storage.ranking import Hit, fuse, weigh_by_words


def hit(document: str, text: str, score: float) -> Hit:
    return Hit(document_id=document, chunk_id=document, partition="p", title="", text=text, score=score)


def test_a_passage_with_all_the_words_beats_one_with_a_single_frequent_word() -> None:
    hits = [hit("a", "parcel parcel parcel", 9.0), hit("b", "the parcel of Eleanor Whitcombe", 8.0)]
    assert [h.document_id for h in weigh_by_words(hits, "parcel of Eleanor Whitcombe")] == ["b", "a"]


def test_words_that_say_nothing_do_not_count() -> None:
    found = weigh_by_words([hit("a", "who is it and why", 5.0)], "who is the musician and why")
    assert found[0].score == 0


def test_a_query_of_function_words_alone_still_finds_them() -> None:
    assert weigh_by_words([hit("a", "The Who", 5.0)], "the who")[0].score == 1


def test_word_forms_are_one_word() -> None:
    assert weigh_by_words([hit("a", "two invoices were reimbursed", 1.0)], "invoice reimbursement")[0].score == 1


def test_where_words_say_little_the_vectors_decide() -> None:
    by_vector = [hit("near", "", 0.6), hit("far", "", 0.1)]
    by_text = weigh_by_words([hit("far", "a building", 3.0)], "blaze in a building with rechargeable undeclared cells")
    assert fuse(by_vector, by_text)[0].document_id == "near"


def test_where_words_say_all_they_decide() -> None:
    by_vector = [hit("near", "", 0.6), hit("exact", "", 0.1)]
    by_text = weigh_by_words([hit("exact", "ticket T-1041 of Monday", 3.0)], "ticket T-1041")
    assert fuse(by_vector, by_text)[0].document_id == "exact"
