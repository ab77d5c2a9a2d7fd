"""Claims about tables read in a process of their own: what a hostile one costs, and what becomes of its rows."""

import io
import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_parse import OURS, TABLES, measured, parse

from ai_assets.base.errors import ParserEnded
from ai_assets.documents.parse import ParsedDocument, ParseLimits, Parser
from ai_assets.documents.parse_tables import MAX_COLUMNS
from ai_assets.documents.source import Source

pytestmark = pytest.mark.slow

MANY = "id,text\n" + "".join(f"{number},text number {number} {'x' * 500}\n" for number in range(20_000))


@pytest.fixture
def parser() -> Iterator[Parser]:
    with Parser() as parser:
        yield parser


def readers() -> list[psutil.Process]:
    """The processes that read tables for this one."""
    children = psutil.Process().children()
    return [child for child in children if "parse_table_worker.py" in " ".join(child.cmdline())]


def begun(parser: Parser, folder: Path, content: str, name: str = "a.csv") -> Iterator[ParsedDocument]:
    """The documents of a table file, one by one."""
    (folder / name).write_text(content)
    source = Source.at(folder)
    (file,) = (file for file in source.list((), ()) if file.path == name)
    return parser.parse(source, file, TABLES)


def parquet(columns: Mapping[str, object]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


WIDE = 200_000
NAMES = [f"column {number}" for number in range(3_000)]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", ",".join(["id"] * WIDE) + "\n", "200,000 columns; the limit is 2,000"),
        ("a.csv", ",".join(f"c{number}" for number in range(WIDE)) + "\n", "200,000 columns; the limit is 2,000"),
        ("a.jsonl", json.dumps(dict.fromkeys(map(str, range(WIDE)), 1)), "line 1: 200,000 columns; the limit is 2,000"),
        ("a.parquet", parquet({name: ["x"] for name in NAMES}), "3,000 columns; the limit is 2,000"),
        ("b.parquet", parquet({"all": [dict.fromkeys(NAMES, 1)]}), "3,000 columns; the limit is 2,000"),
        ("a.csv", f"{'n' * 5_000},{'n' * 5_000}\n", f"two columns are named '{'n' * 60}…'"),
        ("a.csv", "key," + ",".join(f"c{number}" for number in range(1_000)) + "\n", "c28 and 971 more"),
    ],
    ids=["repeated", "csv", "jsonl", "parquet", "nested parquet", "long name twice", "missing among many"],
)
def test_a_wide_table_is_refused_in_one_sentence(
    parser: Parser, tmp_path: Path, name: str, content: bytes | str, reason: str
) -> None:
    (document,) = parse(parser, tmp_path, name, content)
    assert document.status == "quarantined"
    assert str(document.reason).endswith(reason)
    assert len(str(document.reason)) < 1_000


def test_a_table_of_as_many_columns_as_allowed_is_read(parser: Parser, tmp_path: Path) -> None:
    others = [f"c{number}" for number in range(MAX_COLUMNS - 2)]
    (row,) = parse(parser, tmp_path, "a.csv", f"id,text,{','.join(others)}\n1,it,{',' * (len(others) - 1)}\n")
    assert (row.status, row.text) == ("ok", "it")


@pytest.mark.parametrize(
    ("strike", "says"),
    [
        (signal.SIGSTOP, "took longer than 1 s over the rows that come here"),
        (signal.SIGKILL, "could not be read on: the process that reads tables died of it (SIGKILL)"),
    ],
    ids=["hangs", "dies"],
)
def test_what_was_read_before_the_trouble_stays_and_the_next_file_is_read(
    tmp_path: Path, strike: signal.Signals, says: str
) -> None:
    with Parser(ParseLimits(timeout_s=1)) as parser:
        rows = begun(parser, tmp_path, MANY)
        first = next(rows)
        (reader,) = readers()
        reader.send_signal(strike)
        found = [first, *rows]
        assert {row.status for row in found[:-1]} == {"ok"}
        assert 0 < len(found) - 1 < 20_000
        assert (found[-1].document_id, found[-1].reason) == ("a.csv", says)
        (unhurt,) = parse(parser, tmp_path, "b.csv", "id,text\n1,fine\n")
        assert unhurt.text == "fine"


def test_time_that_the_program_takes_over_the_rows_is_not_counted(tmp_path: Path) -> None:
    with Parser(ParseLimits(timeout_s=1)) as parser:
        rows = begun(parser, tmp_path, MANY)
        next(rows)
        psutil.Process().cpu_percent(1.5)
        assert sum(1 for _ in rows) == 19_999


def test_a_row_that_needs_too_much_memory_ends_its_file_alone(tmp_path: Path) -> None:
    with Parser(ParseLimits(memory_bytes=48 << 20)) as parser:
        bomb = f'{{"id": 1, "text": "a"}}\n{{"id": 2, "text": [{",".join(["[]"] * 3_000_000)}]}}\n'
        found = parse(parser, tmp_path, "a.jsonl", bomb)
        assert [row.reason for row in found] == [None, "needed more than 48 MiB of memory"]
        (unhurt,) = parse(parser, tmp_path, "b.csv", "id,text\n1,fine\n")
        assert unhurt.text == "fine"


def test_one_process_reads_all_tables_and_two_at_once_do_not_mix(tmp_path: Path) -> None:
    with Parser() as parser:
        assert readers() == []
        parse(parser, tmp_path, "a.csv", "id,text\n1,a\n")
        (reader,) = readers()
        assert set(reader.environ()) <= OURS
        parse(parser, tmp_path, "b.jsonl", '{"id": 1, "text": "a"}')
        assert readers() == [reader]
        (tmp_path / "other").mkdir()
        one, two = (
            begun(parser, tmp_path, MANY),
            begun(parser, tmp_path / "other", MANY.upper().replace("ID,TEXT", "id,text")),
        )
        pairs = list(zip(one, two, strict=True))
        assert all(first.text == second.text.lower() for first, second in pairs)
        assert len(pairs) == 20_000
        assert len(readers()) == 1
    assert readers() == []


def test_the_process_that_reads_tables_has_nothing_of_ours_with_a_state_or_a_key() -> None:
    program = "import sys, ai_assets.documents.parse_table_worker; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    ours = {name for name in done.stdout.split() if name.startswith("ai_assets")}
    assert ours == {
        "ai_assets", "ai_assets.base", "ai_assets.base.plural", "ai_assets.documents", "ai_assets.storage",
        "ai_assets.documents.parse_table_worker", "ai_assets.documents.parse_tables",
        "ai_assets.documents.parse_text", "ai_assets.documents.parse_encodings", "ai_assets.documents.formats",
            "ai_assets.documents.formats.kinds", "ai_assets.documents.formats.read",
            "ai_assets.documents.parse_worker", "ai_assets.storage.digest",
    }  # fmt: skip


def test_rows_that_are_not_asked_for_any_more_leave_the_next_file_readable(parser: Parser, tmp_path: Path) -> None:
    rows = begun(parser, tmp_path, MANY)
    assert next(rows).text.startswith("text number 0")
    rows.close()  # type: ignore[attr-defined]
    (row,) = parse(parser, tmp_path, "b.csv", "id,text\n1,fine\n")
    assert row.text == "fine"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", ["a.tsv", "a.jsonl", "a.parquet"])
def test_a_large_table_streams_through_both_processes(name: str, tmp_path: Path) -> None:
    texts = [f"note {number} " + "the pump in the hall " * 180 for number in range(20_000)]
    if name == "a.parquet":
        pq.write_table(pa.table({"id": range(len(texts)), "text": texts}), tmp_path / name, compression="none")
    else:
        with (tmp_path / name).open("w") as file:
            file.write("id\ttext\n" if name == "a.tsv" else "")
            for number, text in enumerate(texts):
                file.write(
                    f"{number}\t{text}\n" if name == "a.tsv" else json.dumps({"id": number, "text": text}) + "\n"
                )
    result = measured(
        """
        import psutil
        from ai_assets.documents.languages import language_of
        language_of("a sentence that loads the model of languages before anything is measured")
        (folder / "small.csv").write_text("id,text\\n1,x\\n")
        def child():
            (worker,) = psutil.Process().children()
            return int(Path(f"/proc/{worker.pid}/status").read_text().split("VmHWM:")[1].split()[0]) / 1000
        source = Source.at(folder)
        with Parser() as parser:
            file, small = source.list((), ())
            tables = {kind: table for kind in ("csv", "jsonl", "parquet")}
            list(parser.parse(source, small, tables))
            at_rest, before = child(), peak()
            rows = sum(1 for _ in parser.parse(source, file, tables))
            found = [rows, child() - at_rest, peak() - before]
        """,
        tmp_path,
    )
    rows, theirs, ours = result.found  # type: ignore[misc]
    assert rows == 20_000
    assert theirs < 50
    assert ours < 60


# The start of the process


def hindered_python(folder: Path, monkeypatch: pytest.MonkeyPatch, killed: int) -> Path:
    """A Python whose first starts are ended as the system ends what takes the last of the memory."""
    count, program = folder / "starts", folder / "python"
    program.write_text(
        f"#!/bin/sh\necho x >> {count}\nif [ $(wc -l < {count}) -le {killed} ]; then kill -9 $$; fi\n"
        f'exec {sys.executable} "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    return count


HTML, CSV = ("a.html", "<p>fine"), ("a.csv", "id,text\n1,fine\n")


@pytest.mark.parametrize(("name", "content"), [HTML, CSV])
def test_a_process_killed_at_its_start_is_started_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str
) -> None:
    starts = hindered_python(tmp_path, monkeypatch, killed=1)
    (tmp_path / "documents").mkdir()
    with Parser() as parser:
        (document,) = parse(parser, tmp_path / "documents", name, content)
    assert document.text == "fine"
    assert starts.read_text().count("x") == 2


@pytest.mark.parametrize(("name", "content"), [HTML, CSV])
def test_a_process_killed_at_every_start_says_so_and_blames_no_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str
) -> None:
    hindered_python(tmp_path, monkeypatch, killed=9)
    (tmp_path / "documents").mkdir()
    with Parser() as parser, pytest.raises(ParserEnded) as raised:
        parse(parser, tmp_path / "documents", name, content)
    assert "ended while it started, 2 times: SIGKILL; SIGKILL. SIGKILL is what the system sends" in str(raised.value)
    assert "einstall" not in str(raised.value)


def test_what_a_process_complained_of_before_it_ended_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho 'error while loading shared libraries: libz.so.1' >&2\nexit 127\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    (tmp_path / "documents").mkdir()
    with Parser() as parser, pytest.raises(ParserEnded, match=r"exit code 127: error while loading .* libz.so.1"):
        parse(parser, tmp_path / "documents", *CSV)
