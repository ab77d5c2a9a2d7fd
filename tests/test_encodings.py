"""Claims about text that does not say how it is encoded: it is read, the guess is on record, and noise is no text."""

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import ModuleType

import pytest
from conftest import DAYS, REPOSITORY, Project

from ai_assets.documents.parse import Parser
from ai_assets.documents.parse_encodings import decoded, guessed
from ai_assets.documents.parse_text import Unreadable
from ai_assets.documents.source import Source

DAY = "2026-10-05"
GERMAN = "Die Prüfung der Öfen im größeren Gebäude wurde für nächste Woche verschoben."
JAPANESE = "署名した契約書を金曜日までにお送りください。届かない場合は作業を始めることができません。"
RUSSIAN = "Просим вернуть подписанный договор не позднее пятницы, иначе мы не сможем начать работы."


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    """The texts by which the table in the docs is measured."""
    spec = importlib.util.spec_from_file_location("bench_encodings", REPOSITORY / "bench" / "encodings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_text_of_a_sentence_or_more_is_read_as_it_was_written(bench: ModuleType) -> None:
    found = bench.measure(bench.READERS["ours"])
    for length, least in ((60, 0.99), (200, 0.999), (600, 0.999)):
        right, of = (sum(cell[at] for (_, size), cell in found.items() if size == length) for at in (0, 1))
        assert right >= least * of, (length, right, of)


def test_a_certainty_is_as_often_right_as_it_says(bench: ModuleType) -> None:
    by_certainty: dict[float, list[bool]] = {}
    for _, _, _, text, data in bench.samples():
        guess = guessed(data)
        if guess is not None:
            by_certainty.setdefault(guess.certainty, []).append(data.decode(guess.encoding) == text)
    assert len(by_certainty) >= 4
    for certainty, right in by_certainty.items():
        assert len(right) < 20 or sum(right) / len(right) >= certainty - 0.08, (certainty, len(right))


@dataclass(frozen=True)
class Case:
    encoding: str
    text: str
    name: str = ""


CASES = (
    Case("cp1252", GERMAN), Case("latin-1", GERMAN, "cp1252"), Case("koi8-r", RUSSIAN), Case("cp1251", RUSSIAN),
    Case("shift_jis", JAPANESE, "cp932"), Case("euc-jp", JAPANESE, "euc_jis_2004"),
    Case("iso2022_jp", JAPANESE, "iso2022_jp_2"), Case("utf-16-le", JAPANESE), Case("utf-16-be", RUSSIAN),
    Case("utf-16-le", GERMAN),
)  # fmt: skip


@pytest.mark.parametrize("ending", ["txt", "md", "html", "csv", "jsonl"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.encoding)
def test_whatever_kind_of_file_is_read_with_the_guess_on_record(case: Case, ending: str, tmp_path: Path) -> None:
    text = case.text
    text = case.text
    wrapped = {
        "html": f"<p>{text}</p>",
        "csv": f'id,text\n1,"{text}"\n',
        "jsonl": f'{{"text": "{text}"}}',
    }
    (tmp_path / f"a.{ending}").write_bytes(wrapped.get(ending, text).encode(case.encoding))
    source = Source.at(tmp_path)
    (file,) = source.list((), ())
    with Parser() as parser:
        (document,) = parser.parse(source, file, {})
    assert text in document.text
    assert document.encoding == (case.name or case.encoding)
    assert 0.9 <= (document.certainty or 0) <= 1


def test_utf8_and_what_has_a_mark_or_a_declaration_is_no_guess() -> None:
    for data in (GERMAN.encode(), GERMAN.encode("utf-8-sig"), GERMAN.encode("utf-16"), GERMAN.encode("utf-32")):
        assert (decoded(data).text, decoded(data).encoding) == (GERMAN, None)
    assert decoded(RUSSIAN.encode("koi8-r"), "koi8-r").encoding is None


def test_a_very_short_text_is_a_guess_that_says_so() -> None:
    found = decoded(b"Zo\xeb")
    assert (found.text, found.encoding) == ("Zoë", "cp1252")
    assert (found.certainty or 1) <= 0.5


@pytest.mark.parametrize("size", [64, 300, 5_000, 200_000])
def test_noise_is_never_text(size: int) -> None:
    for seed in range(20):
        assert guessed(Random(seed).randbytes(size)) is None


def test_garbled_text_is_not_read_as_another_encoding() -> None:
    """Bytes of several encodings in one text, as a fax gateway wrote them."""
    with pytest.raises(Unreadable, match="not valid UTF-8 at byte 8; save it as UTF-8"):
        decoded(b"Garbled \x93Driver caf\xe9 \x80 \xff\xfe\xc3( stop\x94 \xf0(\x8c( again")


def test_one_letter_at_the_end_of_a_long_file_is_enough() -> None:
    found = decoded(b"plain words\n" * 100_000 + GERMAN.encode("cp1252"))
    assert found.text.endswith(GERMAN)


def test_a_file_of_fifty_megabytes_is_decided_by_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    import chardet

    seen: list[int] = []
    detect = chardet.detect_all

    def counted(data: bytes, **more: object) -> object:
        seen.append(len(data))
        return detect(data, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(chardet, "detect_all", counted)
    assert guessed((GERMAN + "\n").encode("cp1252") * 100_000) is not None
    assert max(seen) <= 1 << 17


def test_the_row_says_how_it_was_read_and_only_then(project: Project) -> None:
    collection = project.declare(partitions={**DAYS, "end": DAY}, stages=[])
    project.document(f"{DAY}/a.txt", GERMAN)
    project.refresh(collection)
    lake = project.stores().lake
    plain = lake.manifest("notes", "documents", DAY)
    assert plain is not None
    assert "encoding" not in lake.read(plain).column_names
    other = project.document(f"{DAY}/b.txt", RUSSIAN.encode("koi8-r"))
    project.refresh(collection)
    guess = lake.manifest("notes", "documents", DAY)
    assert guess is not None
    rows = {row["path"]: row for row in lake.rows(guess)}
    assert [rows[f"{DAY}/{name}"]["encoding"] for name in ("a.txt", "b.txt")] == [None, "koi8-r"]
    assert rows[f"{DAY}/b.txt"]["encoding_certainty"] > 0.9
    other.unlink()
    project.refresh(collection)
    gone = lake.manifest("notes", "documents", DAY)
    assert gone is not None
    assert {row["status"] for row in lake.rows(gone)} == {"ok", "deleted"}
