"""Who decides on the command line: a name is only a claim until its password is given."""

import getpass
import sys

from ai_assets.cli.output import stores
from ai_assets.errors import NobodyKnown, PasswordMissing
from ai_assets.signoff import people
from ai_assets.signoff.passwords import authenticate
from ai_assets.signoff.people import Person
from resources.settings import PASSWORD_VARIABLE, variable

ADDRESS = "command line"


def signer(by: str | None) -> Person:
    """The person, proved by the password in AI_ASSETS_PASSWORD or one that is asked for."""
    name = people.known_as(by or getpass.getuser())
    state = stores().state
    with state.read() as connection:
        if not people.anybody(connection):
            raise NobodyKnown(name)
    password = variable(PASSWORD_VARIABLE)
    if password is None:
        if not sys.stdin.isatty():
            raise PasswordMissing(name, PASSWORD_VARIABLE)
        password = getpass.getpass(f"Password of {name}: ")
    return authenticate(state, name, password, ADDRESS)
