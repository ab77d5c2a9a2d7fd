"""Names of hosts."""


def is_host(name: str) -> bool:
    """Whether anybody can be asked where it is: between its dots are 1 to 63 characters each."""
    try:
        return bool(name.encode("idna"))
    except UnicodeError:
        return False
