"""`ai-assets reviewers`: who is known, what they may do where, and where they are signed in."""

import sys
from dataclasses import asdict
from getpass import getuser
from typing import Annotated

import sqlalchemy as sa
import typer

from ai_assets.base.tenants import PLACE, load_tenants
from ai_assets.cli.errors import PersonDisabled, PersonKnown
from ai_assets.cli.keys import own
from ai_assets.cli.output import AsJson, collection, console, home, print_json, stores, stores_to_read, table
from ai_assets.cli.signing import actor
from ai_assets.collection.settings import GROUP
from ai_assets.signoff import launch_tokens, passwords, people
from ai_assets.signoff.people import EVERYWHERE, ROLES

app = typer.Typer(help="Who may look, correct, decide and administer.", no_args_is_help=True)
groups = typer.Typer(help="Groups of people, which rules and roles may name.", no_args_is_help=True)
app.add_typer(groups, name="group")
app.add_typer(own, name="key")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Their name, in any case.")]
Holder = Annotated[str, typer.Argument(metavar="NAME|group:GROUP", help="A person, or a group.")]
Where = Annotated[
    str, typer.Argument(metavar="COLLECTION", help="A collection, 'tenant:NAME' for all of a tenant, or '*' for all.")
]
FromStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]


@app.command("add")
def add(
    name: Name,
    email: Annotated[str | None, typer.Option("--email", help="Where messages reach them.")] = None,
    role: Annotated[str | None, typer.Option("--role", help=f"One of {', '.join(ROLES)}.")] = None,
    collections: Annotated[
        list[str] | None, typer.Option("--collection", help="Where they have the role; everywhere by default.")
    ] = None,
    group: Annotated[list[str] | None, typer.Option("--group", help="A group they belong to.")] = None,
    password_stdin: FromStdin = False,
    no_password: Annotated[
        bool, typer.Option("--no-password", help="They sign in with a provider or through a proxy.")
    ] = False,
) -> None:
    """Make somebody known. Their password is made up and printed once, unless one is given."""
    if password_stdin and no_password:
        raise typer.BadParameter("give --password-stdin or --no-password, not both")
    if collections and role is None:
        raise typer.BadParameter("--collection says where a role holds; name the role with --role")
    given = {_place(place): people.role_named(role) for place in collections or [EVERYWHERE]} if role else {}
    password = None if no_password else _password(password_stdin)
    state = stores().state
    password_hash = passwords.hashed(password) if password else None
    with state.write() as connection:
        known = people.known_as(name)
        if (before := people.standing(connection, known)) != "unknown":
            raise PersonKnown(known, before == "disabled")
        people.add(connection, known, email=email, password_hash=password_hash, by=actor())
        for place, found in given.items():
            people.give(connection, known, found, place, by=actor())
        for one in group or ():
            people.join(connection, known, one, by=actor())
    console.print(f"{known} is known now.")
    if password and not password_stdin:
        _tell(known, password)
    if not given:
        console.print(f"They may see nothing yet: ai-assets reviewers grant {known} approver COLLECTION")


@app.command("disable")
def disable(name: Name) -> None:
    """They cannot sign in any more, and are signed out. What they decided stays."""
    with stores().state.write() as connection:
        people.disable(connection, _known(name), by=actor())
    console.print(f"{_known(name)} is disabled, and signed out everywhere.")


@app.command("enable")
def enable(name: Name) -> None:
    """Whoever was disabled may sign in again, with the roles and the password they had."""
    with stores().state.write() as connection:
        _require(connection, _known(name), disabled_too=True)
        people.add(connection, _known(name), email=None, password_hash=None, by=actor())
    console.print(f"{_known(name)} may sign in again.")


@app.command("list")
def list_people(as_json: AsJson = False) -> None:
    """Everybody who is known, with their roles and groups."""
    with stores_to_read().state.read() as connection:
        found = people.everyone(connection)
        given = people.grants(connection)
    of_groups = {name.removeprefix(GROUP): roles for name, roles in given.items() if name.startswith(GROUP)}
    if as_json:
        print_json({"people": [asdict(account) for account in found], "groups": of_groups})
        return
    if not found:
        console.print(f"Nobody is known yet: ai-assets reviewers add {getuser()} --role approver")
        return
    rows = [
        (
            account.name,
            account.email,
            _roles(account.roles),
            ", ".join(account.groups),
            "password" if account.has_password else "proxy or provider",
            f"disabled {account.disabled_at[:10]}" if account.disabled_at else "",
        )
        for account in found
    ]
    table("Reviewers", ("name", "e-mail", "roles", "groups", "signs in by", ""), rows)
    if of_groups:
        table("Groups", ("group", "roles"), [(name, _roles(roles)) for name, roles in of_groups.items()])


@app.command("grant")
def grant(holder: Holder, role: str, where: Where) -> None:
    """Give a role in a collection, in place of the one they had there."""
    found, place = people.role_named(role), _place(where)
    with stores().state.write() as connection:
        who = _holder(holder)
        if not who.startswith(GROUP):
            _require(connection, who)
        people.give(connection, who, found, place, by=actor())
    console.print(f"{who} is {found} in {_said(place)}.")


@app.command("revoke")
def revoke(holder: Holder, where: Where) -> None:
    """Take a role back. It holds at once, also for who is signed in."""
    with stores().state.write() as connection:
        who = _holder(holder)
        if not who.startswith(GROUP):
            _require(connection, who, disabled_too=True)
        done = people.take(connection, who, where, by=actor())
    said = "has no role any more" if done else "had no role of their own"
    console.print(f"{who} {said} in {_said(where)}.")


@groups.command("add")
def join(group: str, name: Name) -> None:
    """Put somebody into a group."""
    with stores().state.write() as connection:
        _require(connection, _known(name))
        people.join(connection, _known(name), group.removeprefix(GROUP), by=actor())
    console.print(f"{_known(name)} belongs to {group.removeprefix(GROUP)}.")


@groups.command("remove")
def leave(group: str, name: Name) -> None:
    """Take somebody out of a group."""
    with stores().state.write() as connection:
        done = people.leave(connection, _known(name), group.removeprefix(GROUP), by=actor())
    said = "does not belong" if done else "did not belong"
    console.print(f"{_known(name)} {said} to {group.removeprefix(GROUP)}{' any more' if done else ''}.")


@app.command("password")
def password(name: Name, password_stdin: FromStdin = False) -> None:
    """Another password; they are signed out everywhere. Made up and printed once, unless one is given."""
    new = _password(password_stdin)
    password_hash = passwords.hashed(new)
    with stores().state.write() as connection:
        _require(connection, _known(name))
        passwords.change(connection, _known(name), password_hash, by=actor())
    console.print(f"{_known(name)} has another password.")
    if not password_stdin:
        _tell(_known(name), new)


@app.command("token")
def make_token(
    name: Name,
    days: Annotated[
        int, typer.Option("--days", min=1, max=launch_tokens.LONGEST_DAYS, help="How long it counts.")
    ] = 90,
    reads: Annotated[
        bool, typer.Option("--reads", help="For the search server: it reads what is published, and starts nothing.")
    ] = False,
) -> None:
    """A token by which a program starts runs in their name (AI_ASSETS_TOKEN). It decides nothing."""
    with stores().state.write() as connection:
        _require(connection, _known(name))
        text, made = launch_tokens.make(connection, _known(name), days=days, by=actor(), reads=reads)
    console.print(f"Token {made.token_id} of {made.person}, until {made.expires_at[:10]}, shown only now: {text}")


@app.command("tokens")
def list_tokens(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One person; all by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """The tokens that start runs or read, without their secrets."""
    with stores_to_read().state.read() as connection:
        if name:
            _require(connection, _known(name), disabled_too=True)
        found = launch_tokens.listed(connection, _known(name) if name else None)
    if as_json:
        print_json([{**asdict(token), "does": token.does, "state": token.state} for token in found])
        return
    if not found:
        console.print("There is no token. Make one: ai-assets reviewers token NAME")
        return
    columns = ("token", "person", "does", "made (UTC)", "by", "until (UTC)", "state")
    rows = [(t.token_id, t.person, t.does, t.made_at[:16], t.made_by, t.expires_at[:16], t.state) for t in found]
    table("Tokens", columns, rows)


@app.command("revoke-token")
def revoke_token(
    token_id: Annotated[str, typer.Argument(metavar="TOKEN", help="As `reviewers tokens` lists it.")],
) -> None:
    """A token starts nothing from now on."""
    with stores().state.write() as connection:
        found = launch_tokens.revoke(connection, token_id, by=actor())
    console.print(f"Token {found.token_id} of {found.person} is revoked.")


@app.command("sessions")
def list_sessions(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One person; all by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Where people are signed in at the desk."""
    from ai_assets.desk import sessions
    from ai_assets.desk.settings import load_desk

    rules = load_desk(home().desk).sessions
    with stores_to_read().state.read() as connection:
        if name:
            _require(connection, _known(name), disabled_too=True)
        found = sessions.of(connection, _known(name) if name else None)
    lasting = [session for session in found if sessions.lasts(session, rules)]
    if as_json:
        shown = ("person", "via", "groups", "created_at", "seen_at", "expires_at", "address", "agent")
        print_json([{key: getattr(session, key) for key in shown} | {"groups": sorted(session.groups)}
                    for session in lasting])  # fmt: skip
        return
    if not lasting:
        console.print("Nobody is signed in." if not name else f"{_known(name)} is not signed in.")
        return
    columns = ("person", "by", "since (UTC)", "last seen (UTC)", "from", "browser")
    rows = [(s.person, s.via, s.created_at[:16], s.seen_at[:16], s.address, s.agent[:60]) for s in lasting]
    table("Sessions", columns, rows)


@app.command("sign-out")
def sign_out(name: Name) -> None:
    """End all sessions of somebody. They may sign in again; to keep them out: disable."""
    from ai_assets.desk import sessions

    with stores().state.write() as connection:
        _require(connection, _known(name), disabled_too=True)
        ended = sessions.end_all(connection, _known(name), by=actor())
    console.print(f"{_known(name)}: {ended} session{'s' if ended != 1 else ''} ended.")


def _password(from_stdin: bool) -> str:
    if not from_stdin:
        return passwords.random_password()
    return passwords.chosen(sys.stdin.readline().rstrip("\r\n"))


def _tell(name: str, new: str) -> None:
    """The one time that it can be read."""
    console.print(f"Password of {name}, shown only now: {new}")


def _known(name: str) -> str:
    return people.known_as(name)


def _holder(text: str) -> str:
    return text if text.startswith(GROUP) else people.known_as(text)


def _place(text: str) -> str:
    """A collection that there is, a tenant that is declared, or all."""
    if text == EVERYWHERE:
        return text
    if not text.startswith(PLACE):
        return collection(text).name
    load_tenants(home().operations).require_place(text)
    return text


def _said(place: str) -> str:
    return "all collections" if place == EVERYWHERE else place.replace(PLACE, "tenant ", 1)


def _roles(roles: object) -> str:
    found = dict(roles) if isinstance(roles, dict) else {}
    return ", ".join(f"{role} in {_said(place)}" for place, role in sorted(found.items()))


def _require(connection: sa.Connection, name: str, *, disabled_too: bool = False) -> None:
    people.require(connection, name)
    if not disabled_too and people.standing(connection, name) == "disabled":
        raise PersonDisabled(name)
