"""Claims about listing and reading a local folder."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_assets.base.errors import SourceUnavailable
from ai_assets.base.globs import Patterns
from ai_assets.documents.source import Source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "docs"
    for name in ("a.md", "b/c.md", "b/d/e.txt", ".hidden/x.md", "b/.DS_Store"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def paths(root: Path, *include: str, exclude: tuple[str, ...] = ()) -> list[str]:
    return [file.path for file in Source.at(root).list(include, exclude)]


def problems(root: Path) -> dict[str, str]:
    return {file.path: file.problem for file in Source.at(root).list((), ()) if file.problem}


def read(root: Path, path: str) -> bytes:
    with Source.at(root).open(path) as stream:
        return stream.read()


def test_files_come_in_the_order_of_their_paths_without_hidden_ones(folder: Path) -> None:
    assert paths(folder) == ["a.md", "b/c.md", "b/d/e.txt"]


def test_size_and_time_are_those_of_the_file(folder: Path) -> None:
    os.utime(folder / "a.md", ns=(5, 123_456_789))
    first = next(Source.at(folder).list((), ()))
    assert (first.size, first.modified_ns, first.problem) == (4, 123_456_789, None)


@dataclass(frozen=True)
class Glob:
    pattern: str
    fits: tuple[str, ...]
    not_: tuple[str, ...]


GLOBS = (
    Glob("*.md", ("a.md", "é.md"), ("b/a.md", "a.mdx", "amd")),
    Glob("**/*.md", ("a.md", "b/a.md", "b/c/a.md"), ("a.txt", "amd")),
    Glob("**", ("a", "a/b/c"), ()),
    Glob("b/**", ("b/a", "b/c/d"), ("b", "bb/a", "a/b/c")),
    Glob("b/", ("b/a", "b/c/d"), ("b", "c/b/a")),
    Glob("b/**/z", ("b/z", "b/c/z", "b/c/d/z"), ("z", "b/cz")),
    Glob("a?.txt", ("ab.txt",), ("a.txt", "a/.txt", "abc.txt")),
    Glob("[ab].txt", ("a.txt", "b.txt"), ("c.txt", "ab.txt")),
    Glob("[!a-c].txt", ("d.txt",), ("a.txt", "b.txt", "/.txt")),
    Glob("a[.txt", ("a[.txt",), ("a.txt",)),
    Glob("2024-*/*.pdf", ("2024-01/x.pdf",), ("2024-01/y/x.pdf", "2023-01/x.pdf")),
    Glob("(a|b)+.md", ("(a|b)+.md",), ("a.md", "ab.md")),
    Glob("e\u0301.md", ("é.md",), ("e.md",)),
)


@pytest.mark.parametrize("case", GLOBS, ids=lambda case: case.pattern)
def test_a_glob_fits_what_it_says(case: Glob) -> None:
    pattern = Patterns([case.pattern], [])
    assert [path for path in case.fits if not pattern.match(path)] == []
    assert [path for path in case.not_ if pattern.match(path)] == []


@given(st.text(alphabet="ab*?[]!/-^\\.(|", max_size=12), st.text(alphabet="ab/.-", max_size=8))
def test_any_text_is_a_glob_and_excluding_it_is_the_opposite_of_including_it(pattern: str, path: str) -> None:
    assert Patterns([pattern], []).match(path) is not Patterns([], [pattern]).match(path)


def test_exclude_wins_over_include_and_an_excluded_folder_is_not_entered(folder: Path) -> None:
    assert paths(folder, "**/*.md", exclude=("b/**",)) == ["a.md"]
    assert paths(folder, exclude=("**/d/**", "a.*")) == ["b/c.md"]


def test_a_symlink_inside_the_folder_is_read(folder: Path) -> None:
    (folder / "link.md").symlink_to("b/c.md")
    (folder / "z").symlink_to("b/d")
    assert paths(folder) == ["a.md", "b/c.md", "b/d/e.txt", "link.md", "z/e.txt"]
    assert read(folder, "link.md") == b"b/c.md"
    assert problems(folder) == {}


def test_symlinks_that_leave_break_or_turn_back_are_named_and_never_followed(folder: Path) -> None:
    (folder.parent / "secret").mkdir()
    (folder.parent / "secret" / "key.md").write_text("secret")
    (folder / "out.md").symlink_to(folder.parent / "secret" / "key.md")
    (folder / "outer").symlink_to(folder.parent / "secret")
    (folder / "broken.md").symlink_to("nowhere")
    (folder / "loop.md").symlink_to("loop.md")
    (folder / "b" / "up").symlink_to("..")
    assert problems(folder) == {
        "b/up": "the symlink leads back to a folder that contains it",
        "broken.md": "the symlink is broken: its target does not exist",
        "loop.md": "the symlink leads back to itself",
        "out.md": "the symlink leaves the source folder",
        "outer": "the symlink leaves the source folder",
    }
    with pytest.raises(PermissionError):
        read(folder, "out.md")
    with pytest.raises(PermissionError):
        read(folder, "../secret/key.md")


def test_folders_that_link_to_each_other_many_times_do_not_multiply(tmp_path: Path) -> None:
    for level in range(25):
        (tmp_path / f"{level}").mkdir()
        (tmp_path / f"{level}" / "f.md").write_text("x")
        for side in "ab":
            (tmp_path / f"{level}" / side).symlink_to(f"../{level + 1}")
    (tmp_path / "25").mkdir()
    assert len(paths(tmp_path)) < 500


def test_a_kubernetes_config_map_is_read(tmp_path: Path) -> None:
    (tmp_path / "..2026_10_05").mkdir()
    (tmp_path / "..2026_10_05" / "a.md").write_text("mounted")
    (tmp_path / "..data").symlink_to("..2026_10_05")
    (tmp_path / "a.md").symlink_to("..data/a.md")
    assert read(tmp_path, "a.md") == b"mounted"
    assert paths(tmp_path) == ["a.md"]


def test_pipes_and_sockets_are_named_and_never_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe.md")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "s.md"))
    assert problems(folder) == {"pipe.md": "is a named pipe, not a file", "s.md": "is a socket, not a file"}
    with pytest.raises(OSError, match="is not a regular file"):
        read(folder, "pipe.md")
    listener.close()


@pytest.fixture
def as_nobody() -> Iterator[Path]:
    """A folder in the hands of somebody who is not root; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        for path in ("open.md", "closed.md", "closed/x.md"):
            (root / path).parent.mkdir(exist_ok=True)
            (root / path).write_text("x")
        (root / "closed.md").chmod(0)
        (root / "closed").chmod(0)
        if os.getuid() != 0:
            yield root
        else:
            os.setresuid(65534, 65534, 0)
            try:
                yield root
            finally:
                os.setresuid(0, 0, 0)


def test_what_may_not_be_read_is_named_and_the_rest_is_listed(as_nobody: Path) -> None:
    assert paths(as_nobody) == ["closed", "closed.md", "open.md"]
    found = problems(as_nobody)
    assert found["closed"] == "the folder cannot be read: Permission denied"
    assert "no permission" in found["closed.md"]
    with pytest.raises(PermissionError):
        read(as_nobody, "closed.md")


def test_a_source_that_may_not_be_read_says_who_may_not(as_nobody: Path) -> None:
    with pytest.raises(SourceUnavailable, match=r"closed: user \d+ may not read this folder\. Give it read"):
        Source.at(as_nobody / "closed").list((), ())


def test_a_name_that_is_not_utf8_is_named_with_its_bytes_written_out(folder: Path) -> None:
    (folder / os.fsdecode(b"caf\xe9.md")).touch()
    (found,) = problems(folder).items()
    assert found == ("caf\\xe9.md", "its name is not valid UTF-8; rename it")


def test_a_decomposed_name_is_listed_composed_and_still_read(folder: Path) -> None:
    (folder / "re\u0301sume\u0301").mkdir()
    (folder / "re\u0301sume\u0301" / "x.md").write_text("cv")
    assert paths(folder, "résumé/*") == ["résumé/x.md"]
    assert read(folder, "résumé/x.md") == b"cv"


def test_two_names_that_look_the_same_do_not_become_one_document(folder: Path) -> None:
    (folder / "\u00e9.md").write_text("one")
    (folder / "e\u0301.md").write_text("two")
    assert paths(folder, "é*") == ["é.md", "é.md~2"]
    assert "Unicode normal form" in problems(folder)["é.md~2"]


@dataclass(frozen=True)
class Missing:
    id: str
    location: str
    says: str


MISSING = (
    Missing("no folder", "nowhere", "nowhere: there is no such folder. Create it"),
    Missing("a file", "file.md", "file.md: it is a file, not a folder. Name the folder"),
    Missing("scheme", "gs://key:secret@bucket/x?token=secret", "Source gs://bucket/x: 'gs' is no known kind of source"),
)


@pytest.mark.parametrize("case", MISSING, ids=lambda case: case.id)
def test_a_source_that_is_not_there_says_so_in_one_message(case: Missing, tmp_path: Path) -> None:
    (tmp_path / "file.md").write_text("x")
    location = case.location if "://" in case.location else tmp_path / case.location
    with pytest.raises(SourceUnavailable) as caught:
        Source.at(location).list((), ())
    assert case.says in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_missing_file_is_an_os_error_but_a_missing_source_is_ours(folder: Path) -> None:
    source = Source.at(folder)
    with pytest.raises(FileNotFoundError):
        source.open("é.md")
    folder.rename(folder.with_name("moved"))
    with pytest.raises(SourceUnavailable):
        source.open("a.md")


def test_a_file_url_is_a_folder(folder: Path) -> None:
    spaced = folder.rename(folder.with_name("my docs"))
    source = Source.at(f"file://{spaced}".replace(" ", "%20"))
    assert [file.path for file in source.list(["*.md"], [])] == ["a.md"]
    assert source.describe() == str(spaced)


def test_listing_takes_no_more_than_several_times_a_bare_walk(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}").mkdir()
        for name in range(1_000):
            (tmp_path / f"{number}" / f"{name}.md").touch()

    def spent(work: Callable[[], int]) -> float:
        best = float("inf")
        for _ in range(3):
            started = time.process_time()
            assert work() == 5_000
            best = min(best, time.process_time() - started)
        return best

    bare = spent(lambda: len([path.stat() for path in tmp_path.rglob("*.md")]))
    assert spent(lambda: len(paths(tmp_path, "**/*.md"))) < 5 * bare


def test_importing_the_module_does_not_import_arrow() -> None:
    code = "import ai_assets.documents.source, sys; sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("pattern", "fitting"), [("[b-ax]", "x"), ("[[-?]", ""), ("[!b-a]", "axb[?-")])
def test_a_range_that_runs_backwards_holds_nothing(pattern: str, fitting: str) -> None:
    assert "".join(c for c in "axb[?-" if Patterns([pattern], []).match(c)) == fitting
