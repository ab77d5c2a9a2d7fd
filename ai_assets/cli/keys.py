"""`ai-assets keys`: the keys that sign the audit chain."""

from pathlib import Path
from typing import Annotated

import typer

from ai_assets.cli.output import AsJson, By, console, print_json, stores, stores_to_read, table
from ai_assets.cli.signing import actor, signer
from ai_assets.signoff import authority, key_changes, keys, people, personal_keys
from ai_assets.signoff.errors import PersonalKeyUnusable
from ai_assets.signoff.keys import KINDS, Kind

app = typer.Typer(help="The keys that sign the audit chain: files or variables, never rows.", no_args_is_help=True)
WhichKind = Annotated[str, typer.Argument(metavar="recorder|decision", help="Of runs and sensors, or of people.")]


@app.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """Which keys counted when, by the chain."""
    places = stores_to_read()
    with places.state.read() as connection:
        found = key_changes.listed(connection)
    if as_json:
        print_json([vars(key) for key in found])
        return
    if not found:
        console.print("There are no keys yet; the first record makes them.")
        return
    rows = [
        (key.key_id, key.kind, key.since or "the start", key.revoked_by, "yes" if key.held else "", key.public)
        for key in found
    ]
    table("", ("key", "kind", "since record", "revoked by record", "held here", "public"), rows)
    console.print(f"Private keys and trust.json: {places.state.keys}")


@app.command("new")
def new(folder: Annotated[Path, typer.Argument(help="A folder that does not exist yet.")]) -> None:
    """A pair of keys for a new installation, to be mounted: AI_ASSETS_KEYS names the folder there."""
    if (folder / keys.TRUST).exists():
        raise typer.BadParameter(f"there are keys in {folder} already")
    keys.write_new(folder.absolute())
    console.print(
        f"Keys made in {folder}. Runs and sensors need recorder.pem and trust.json; the desk decision.pem too."
    )


@app.command("rotate")
def rotate(kind: WhichKind) -> None:
    """Another key from now on. The old one counts for what it signed; end that with `revoke`."""
    made = key_changes.rotate(stores().state, _kind(kind), by=actor())
    console.print(f"The {kind} key is now {made}.")


@app.command("vouch")
def vouch(kind: WhichKind, public: Annotated[str, typer.Argument(help="Its public half, in base64.")]) -> None:
    """Have the chain vouch for a key that is kept elsewhere, such as in a secret that is about to be mounted."""
    made = key_changes.vouch(stores().state, _kind(kind), public, by=actor())
    console.print(f"The {kind} key {made} counts from now on.")


@app.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="Its id, as `keys list` shows it.")],
    reason: Annotated[str, typer.Option("--reason", help="Recorded with it.")],
) -> None:
    """Nothing that the key signs from now on counts, nor an approval of before that is not published yet."""
    key_changes.revoke(stores().state, key_id, by=actor(), reason=reason)
    console.print(f"The key {key_id} is revoked.")


own = typer.Typer(help="Keys of persons, with which they sign decisions themselves.", no_args_is_help=True)


@own.command("add")
def add_own(
    public: Annotated[Path, typer.Argument(metavar="PUBLIC", help="The public half: id_ed25519.pub, minisign.pub.")],
    key: Annotated[Path, typer.Option("--key", help="The private half, or the public one where an agent has it.")],
    sign_with: Annotated[
        Path | None, typer.Option("--with", help="A key of yours that is known already; a first one takes none.")
    ] = None,
    by: By = None,
) -> None:
    """Add a key of your own. The first one takes your password, each further one a signature with one you have."""
    try:
        found = personal_keys.read_public(public.expanduser().read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise PersonalKeyUnusable(f"{public} cannot be read ({error})") from error
    person, state = signer(by), stores().state
    with state.write() as connection:
        said = key_changes.enrolment(connection, person.name, found)
    data = personal_keys.statement(said)
    proof = personal_keys.sign_with(key, data)
    vouched = personal_keys.sign_with(sign_with, data) if sign_with else None
    key_changes.add_own(state, person, found, said, proof=proof, vouched=vouched)
    console.print(f"{found.key_id} is a key of {person.name} now: ai-assets signoff approve ... --key {key}")


@own.command("list")
def list_own(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One person; all by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Whose keys are known."""
    with stores_to_read().state.read() as connection:
        known = authority.of(connection).personal
    found = [
        {"key_id": key_id, "person": one.person, "type": one.key.type, "public": one.key.public, "since": one.since,
         "revoked_by": one.until}
        for key_id, one in known.items() if name is None or one.person == people.known_as(name)
    ]  # fmt: skip
    if as_json:
        print_json(found)
        return
    if not found:
        console.print("No keys of persons are known: ai-assets reviewers key add PUBLIC --key PRIVATE")
        return
    rows = [
        (one["key_id"], one["person"], one["type"], one["since"], one["revoked_by"], str(one["public"])[:80])
        for one in found
    ]
    table("", ("key", "person", "type", "since record", "revoked by record", "public"), rows)


@own.command("revoke")
def revoke_own(
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="Its id, as `reviewers key list` shows it.")],
    reason: Annotated[str, typer.Option("--reason", help="Recorded with it.")],
) -> None:
    """Nothing that is signed with it from now on counts, nor an approval of before that is not published yet."""
    person = key_changes.revoke_own(stores().state, key_id, by=actor(), reason=reason)
    console.print(f"The key {key_id} of {person} is revoked.")


def _kind(text: str) -> Kind:
    for kind in KINDS:
        if kind == text.strip().lower():
            return kind
    raise typer.BadParameter(f"'{text}' is neither 'recorder' nor 'decision'")
