"""Who starts a run on the command line: a person who proves it by password or token, or somebody unknown.

Nobody is asked for a password who did not name themselves: scripts run without questions.
"""

import getpass
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from ai_assets.base.home import TOKEN_VARIABLE, variable
from ai_assets.cli.errors import LauncherUnclear, LauncherWithoutRole
from ai_assets.cli.output import errors
from ai_assets.cli.signing import signer, with_tenants
from ai_assets.collection.loading import Collection
from ai_assets.signoff import launch_tokens, launches, people
from ai_assets.signoff.launches import Launcher
from ai_assets.signoff.people import Person
from ai_assets.signoff.policy_facts import NOBODY, require_access
from ai_assets.storage.stores import Stores

RunBy = Annotated[
    str | None,
    typer.Option("--by", help="Who starts it, proved by their password; otherwise nobody is the known author."),
]
HOW = f"name yourself with --by NAME, or set {TOKEN_VARIABLE}"


@dataclass(frozen=True, kw_only=True)
class Author:
    """Of a run that this command starts."""

    launcher: Launcher | None
    why: str = f"nobody was named ({HOW})"
    """Where there is none."""

    @property
    def name(self) -> str:
        """For what needs a name that proves nothing, such as who made a backfill."""
        return self.launcher.who if self.launcher else getpass.getuser()

    def tags(
        self, places: Stores, chosen: Collection, partitions: Sequence[str], *, backfill: str = "", run_id: str = ""
    ) -> dict[str, str]:
        """For the run or the backfill. Where a ticket cannot be signed here, it is said, and the author is unknown."""
        if self.launcher is None:
            return {}
        try:
            with places.state.write() as connection:
                return launches.issue(
                    connection, self.launcher, collection=chosen.name, partitions=partitions, backfill=backfill,
                    run_id=run_id,
                )  # fmt: skip
        except launches.NO_KEY as error:
            errors.print(f"note: the author of this run will be unknown. {error}")
            return {}


def author_of(places: Stores, by: str | None, chosen: Collection) -> Author:
    """By the token in the environment, or by the password of who is named."""
    token = variable(TOKEN_VARIABLE)
    if token is not None:
        with places.state.read() as connection:
            holder = launch_tokens.holder(connection, token)
            person = people.find(connection, holder)
        if by is not None and people.known_as(by) != holder:
            raise LauncherUnclear(people.known_as(by), holder)
        known = with_tenants(person) if person else Person(name=holder)
        _require_role(known, chosen)
        require_access(chosen, known, "start")
        return Author(launcher=Launcher(kind="person", who=holder, proof="token"))
    if by is not None:
        return signed_in(signer(by), chosen)
    require_access(chosen, NOBODY, "start")  # else leaving the name out would be the way around a rule
    return Author(launcher=None)


def _require_role(person: Person, chosen: Collection) -> None:
    """Where tenants are declared, nobody's name starts what is another tenant's."""
    if person.tenant_of and not person.may("reviewer", chosen.name):
        raise LauncherWithoutRole(person.name, chosen.name)


def signed_in(person: Person, chosen: Collection) -> Author:
    """Somebody who has given their password."""
    _require_role(person, chosen)
    require_access(chosen, person, "start")
    return Author(launcher=Launcher(kind="person", who=person.name, proof="password"))


def said(author: Author, chosen: Collection) -> str:
    """A line for people: whose run this is, and what it means where nobody's is known."""
    if author.launcher is not None:
        return f"Started by {launches.Launch.of(author.launcher).in_words}."
    consequence: Mapping[Any, str] = {
        "allow": "",
        "two": "; what comes of it takes two approvals",
        "refuse": "; what comes of it cannot be approved",
    }
    return f"Author unknown: {author.why}{consequence[chosen.settings.signoff.unknown_author]}."
