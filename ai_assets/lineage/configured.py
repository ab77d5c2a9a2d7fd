"""Whether OpenLineage is configured, by its own variables or file: asked by each run, so it imports nothing."""

from pathlib import Path

from ai_assets.base.home import Home, variable, variables_beginning

FILE = "openlineage.yml"


def is_configured(home: Home) -> bool:
    if (variable("OPENLINEAGE_DISABLED") or "").strip().lower() == "true":
        return False
    if variable("OPENLINEAGE_URL") or variable("OPENLINEAGE_CONFIG"):
        return True
    return bool(variables_beginning("OPENLINEAGE__TRANSPORT")) or file_of(home) is not None


def file_of(home: Home) -> Path | None:
    """Where the client looks without a variable, and beside it in the project, wherever a run is started from."""
    for folder in (home.project, Path.cwd(), Path.home() / ".openlineage"):
        if (folder / FILE).is_file():
            return folder / FILE
    return None
