"""How commands speak: tables for people, JSON for programs, one sentence for errors."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from functools import partial
from getpass import getuser
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from ai_assets.base.errors import UserError
from ai_assets.base.home import Home
from ai_assets.base.money import dollars
from ai_assets.base.printable import printable, readable_json
from ai_assets.signoff.errors import SignedAssetElsewhere
from ai_assets.storage.stores import Stores

if TYPE_CHECKING:
    from ai_assets.collection.loading import Collection

WIDE = 200
"""Width where there is no terminal: lines are for programs and logs there, and must not be cut."""


class _PlainConsole(Console):
    """Takes text as text: no markup in it is followed, and no control character of it reaches the terminal."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


console = _PlainConsole(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else WIDE)
errors = _PlainConsole(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def confirm(unavailable: UserError, otherwise: str, *, sure: bool, quiet: bool) -> None:
    """Somebody at a terminal says yes, unless they are `sure`; raises `unavailable` where nobody can be asked."""
    if sure:
        return
    if quiet or not sys.stdin.isatty():
        raise unavailable
    if not typer.confirm("Go ahead?", default=False):
        console.print(otherwise)
        raise typer.Exit(0)


def _names(incomplete: str) -> list[str]:
    """For the shell, which has no place for an error."""
    from ai_assets.collection.catalog import Catalog

    try:
        return [name for name in Catalog(home()).names() if name.startswith(incomplete)]
    except (UserError, OSError):
        return []


CollectionName = Annotated[
    str,
    typer.Argument(metavar="COLLECTION", help="Name of a folder below collections/.", autocompletion=_names),
]
By = Annotated[str | None, typer.Option("--by", help="Who decides; your user name by default.")]


def home() -> Home:
    return Home.from_environment()


def collection(name: str, *, signed: bool = False) -> "Collection":
    """Of the project or, where the command can do with one, a signed asset that the home knows.

    Where it is not known yet, the code locations of the project are imported: they record theirs.
    """
    from ai_assets.collection.catalog import Catalog

    catalog = Catalog(home())
    if name in catalog.entries():
        return catalog.load(name)
    found = signed_assets().get(name)
    if found is not None and not signed:
        raise SignedAssetElsewhere(name, str(found.signed_asset))
    if found is None:
        from ai_assets.orchestration.code_location import code_locations

        for location in code_locations(catalog.home.project):
            location.load()
    return found or catalog.load(name)


def all_collections(*, signed: bool = False) -> "list[Collection]":
    from ai_assets.collection.catalog import Catalog

    found = Catalog(home()).all()
    return [*found, *signed_assets().values()] if signed else found


def signed_assets() -> "dict[str, Collection]":
    """None where there is no home yet: looking makes none."""
    from ai_assets.signed_asset.declaration import recorded

    return recorded(stores_to_read().state) if home().root.is_dir() else {}


def stores() -> Stores:
    from ai_assets.collection.catalog import Catalog

    opened = Stores.at(home())
    Catalog(opened.home).record_held()
    return opened


def stores_to_read() -> Stores:
    """For commands that only read, also from a full or read-only disk."""
    return Stores.reading(home(), errors.print)


def person(by: str | None) -> str:
    return by or getuser()


def print_json(value: Any) -> None:
    """Plain JSON on standard output, whatever the terminal is."""
    plain = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    sys.stdout.write(readable_json(plain, indent=2) + "\n")


def led(lead: str, style: str, rest: str) -> Text:
    """A line that begins in another style."""
    return Text.assemble((lead, style), rest)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], right: Sequence[str] = ()) -> None:
    if title:
        console.print(title, style="bold")
    drawn = Table(box=SIMPLE_HEAD, padding=(0, 1))
    for name in columns:
        drawn.add_column(name, justify="right" if name in right else "left", overflow="fold", no_wrap=name in right)
    for row in rows:
        drawn.add_row(*("" if cell is None else str(cell) for cell in row))
    console.print(drawn)


@contextmanager
def drawn_bar(description: str) -> Iterator[Callable[..., None]]:
    """On a terminal, until the block ends. What it is given says what is done now, how much of it, and of how much."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as drawn:
        yield partial(drawn.update, drawn.add_task(description, total=None))


def money(amount: float | None) -> str:
    """Unknown is never shown as zero."""
    return dollars(amount, significant=2, at_least=4, unknown="?")
