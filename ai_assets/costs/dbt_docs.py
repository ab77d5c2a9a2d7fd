"""The documentation that dbt makes of the cost warehouse, as one page that needs no server and no network.

dbt runs in a process of its own, with the live warehouse opened to be read. This module is also what that process runs.
"""

import os
import subprocess
import sys
from pathlib import Path

import ai_assets.base.child_main
from ai_assets.base.durable import write_whole
from ai_assets.base.errors import UserError
from ai_assets.base.extras import need
from ai_assets.base.home import Home
from ai_assets.base.temporary import TemporaryFolder
from ai_assets.costs.dbt_build import environment
from ai_assets.costs.marts import project
from ai_assets.storage.shared_warehouse import warehouse_file
from ai_assets.storage.warehouse import Site, reading

PAGE = "index.html"
_STATIC = "static_index.html"
"""As dbt calls it."""


class DocsUnmade(UserError):
    def __init__(self, found: str) -> None:
        super().__init__(f"dbt could not document the cost warehouse: {found}. Nothing was written.")


class DocsUnwritable(UserError):
    def __init__(self, folder: Path, error: OSError) -> None:
        super().__init__(
            f"The page cannot be written to {folder} ({error.strerror or error}). Name another folder: "
            "ai-assets warehouse docs --out FOLDER"
        )


def write_docs(home: Home, folder: Path) -> Path:
    """The page, in place of an earlier one. Raises WarehouseMissing where nothing was built yet."""
    need("costs", "The documentation of the cost warehouse")
    live = warehouse_file(home)
    with reading(live):
        pass  # it is there, and of this version
    with TemporaryFolder("docs") as place:
        site = Site(file=live, folder=place)
        done = subprocess.run(
            [sys.executable, ai_assets.base.child_main.__file__, str(os.getpid()), __name__],
            env={**environment(site), "AI_ASSETS_WAREHOUSE_ACCESS": "READ_ONLY", "DBT_LOG_FORMAT": "text"},
            cwd=project(),
            capture_output=True,
            text=True,
            check=False,
        )
        made = place / "target" / _STATIC
        if done.returncode != 0 or not made.is_file():
            said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            raise DocsUnmade(said[-1].rstrip(".") if said else "it ended without a word")
        page = made.read_bytes().replace(f"{place}/".encode(), b"")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / PAGE, page)
    except OSError as error:
        raise DocsUnwritable(folder, error) from error
    return folder / PAGE


def main() -> None:
    from dbt.cli.main import dbtRunner

    done = dbtRunner().invoke(["docs", "generate", "--static"])
    if done.exception is not None:
        sys.stdout.write(f"{done.exception}\n")
    sys.exit(0 if done.success else 1)


if __name__ == "__main__":
    main()
