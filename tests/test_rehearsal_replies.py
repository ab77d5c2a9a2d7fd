"""Claims about what the rehearsal provider says: plausible text, drawn from the document and from nothing else."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from ai_assets.rehearsal.chat import ChatMessage
from ai_assets.rehearsal.letters import Letter, signature, tells
from ai_assets.rehearsal.reading import Reading, read
from ai_assets.rehearsal.replies import prose
from ai_assets.rehearsal.schemas import fill

LETTER = """Stolen laptop

Dear claims department,

on 11 March 2026 my laptop was taken from a locked car in the car park at Raatuse 22. The window was smashed. The
police have recorded it under 26-3341. My policy is HM-3876-H and I claim 1,559.00 EUR.

With regards,
Kadri Lepik
"""
GERMAN = """Schadenmeldung: Hagel

Sehr geehrte Damen und Herren,

am 22. April 2026 hat ein Hagelschauer das Dach unseres Gewächshauses zerschlagen. Der Glaser verlangt 1.120,00 EUR. Ich
bitte um Erstattung der Kosten und um eine Nachricht.

Mit freundlichen Grüßen
Almut Reinders
"""
DRAFT = "You draft first replies. Say that a handler will write within five working days. Write at most 120 words."
LABELS = "- claim: somebody reports a loss and claims money for it\n- letter: any other letter, a question or thanks"


def about(document: str, instructions: str = "", *, quick: bool = False) -> Reading:
    text = f"<document>\n{document}\n</document>"
    found = [ChatMessage("system", instructions, 0), ChatMessage("user", text, 0)]
    return read(found, quick=quick)


def filled(document: str, properties: Mapping[str, Any], instructions: str = "") -> Any:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return fill(schema, about(document, instructions)).value


SIGNATURES = [
    (LETTER, "Kadri Lepik"),
    ("Fire\n\nWe claim 10 EUR.\n\nFor the Anker: Mirela Stan", "Mirela Stan"),
    ("Report\n\nAll is well.\n\nSigned: Telmo Vaz, warehouse manager", "Telmo Vaz"),
    ("Note\n\nThe rating is good. The next visit is in May.", ""),
    ("Invoice 17\nTotal: 250.00", ""),
    ("Kadri Lepik", ""),
]


@pytest.mark.parametrize(("text", "name"), SIGNATURES, ids=[name or text[:10] for text, name in SIGNATURES])
def test_who_signed_is_the_name_at_the_end(text: str, name: str) -> None:
    assert signature(text) == name


@pytest.mark.parametrize(
    ("sentence", "says_something"),
    [
        ("The window was smashed on Monday.", True),
        ("Dear claims department and all who read this,", False),
        ("Sehr geehrte Damen und Herren,", False),
        ("For the Anker: Mirela Stan", False),
        ("Greta Ohlendorf, of Ohlendorf Toys", False),
        ("Visit of 21 January 2026, inspector L.", False),
        ("Rating: good.", False),
    ],
)
def test_the_frame_of_a_letter_says_nothing(sentence: str, says_something: bool) -> None:
    assert tells(sentence) is says_something


def test_a_reply_is_a_letter_to_who_wrote_with_what_the_document_holds_and_what_shall_be_promised() -> None:
    assert prose(about(LETTER, DRAFT), 1) == (
        'Dear Kadri Lepik,\n\nthank you for your letter "Stolen laptop". We have noted policy HM-3876-H, the date '
        "11 March 2026 and the amount of 1,559.00 EUR. A handler will write within five working days.\n\nKind regards"
    )


def test_a_reply_is_in_the_language_of_the_letter_and_alternatives_differ() -> None:
    one, other = (prose(about(GERMAN, DRAFT), number) for number in (0, 1))
    assert one != other
    for text in (one, other):
        assert text.startswith("Guten Tag Almut Reinders,")
        assert "„Schadenmeldung: Hagel“" in text
        assert "1.120,00 EUR" in text
        assert text.endswith("Mit freundlichen Grüßen")


def test_a_reply_to_a_text_without_facts_makes_none_up() -> None:
    letter = Letter(text="All is well here, and we like it.", title="", date="", amount="", promise="")
    assert letter.answer(1).count(".") >= 2
    assert not any(map(str.isdigit, letter.answer()))
    assert "noted" not in letter.answer()


@pytest.mark.parametrize("number", range(6))
def test_a_passage_is_never_a_salutation_or_a_signature(number: int) -> None:
    said = prose(about(LETTER, "Continue."), number)
    assert "Dear" not in said
    assert "Kadri" not in said


def test_details_are_found_where_the_document_has_them() -> None:
    properties = {
        "policy_number": {"type": ["string", "null"], "pattern": "^HM-[0-9]{4}-[A-Z]$"},
        "claimant_name": {"type": ["string", "null"]},
        "amount": {"type": ["number", "null"]},
        "evidence": {"type": "string"},
    }
    assert filled(LETTER, properties) == {
        "policy_number": "HM-3876-H",
        "claimant_name": "Kadri Lepik",
        "amount": 1559.0,
        "evidence": "My policy is HM-3876-H and I claim 1,559.00 EUR.",
    }


def test_a_list_of_names_holds_those_of_the_document() -> None:
    names = filled(LETTER, {"names": {"type": "array", "items": {"type": "string"}}})["names"]
    assert "Kadri Lepik" in names
    assert all(name in LETTER for name in names)


def test_a_label_has_evidence_and_a_reason_that_say_something() -> None:
    properties = {
        "label": {"enum": ["claim", "letter"]},
        "rationale": {"type": "string"},
        "evidence": {"type": "string"},
    }
    found = filled(LETTER, properties, LABELS)
    assert tells(found["evidence"])
    assert found["evidence"] in LETTER
    assert found["rationale"].startswith(f'It reads like "{found["label"]}" rather than "')
    assert json.dumps(found) == json.dumps(filled(LETTER, properties, LABELS)), "the same request has the same answer"


def test_where_speed_is_asked_for_nothing_is_read_closely() -> None:
    assert prose(about(LETTER, DRAFT, quick=True)) != prose(about(LETTER, DRAFT))
