"""Dagster's own command, logging as it is told from its first line on: `python -m ai_assets.ops.logged_dagster ...`.

A code server starts the process that loads the code by Dagster's command, which knows nothing of our logs until it has
loaded it; here it starts this module instead.
"""

from collections.abc import Sequence

from ai_assets.base.structured_log import begin

MODULE = "ai_assets.ops.logged_dagster"


def _by_this_module(executable_path: str) -> Sequence[str]:
    return [executable_path, "-m", MODULE]


if __name__ == "__main__":
    begin()
    from dagster._cli import main
    from dagster._grpc import server

    server.get_python_environment_entry_point = _by_this_module  # type: ignore[attr-defined]
    main()  # type: ignore[no-untyped-call]
