"""Whether the definitions load, as a code server would load them, in a process of its own and a home of its own."""

import subprocess
from collections.abc import Iterator
from dataclasses import replace

from ai_assets.base.environment import LOCAL
from ai_assets.base.home import DATA_URL_VARIABLE, ENVIRONMENT_VARIABLE, STATE_URL_VARIABLE, UP_VARIABLE
from ai_assets.base.temporary import TemporaryFolder
from ai_assets.doctor.findings import Finding, fine, noted, of_error, wrong
from ai_assets.doctor.installation import Installation
from ai_assets.ops.managed_process import child, last_words
from ai_assets.ops.trial_load import TrialLoad, spec_of
from ai_assets.orchestration.code_location import CodeLocation, CodeLocationUnusable, code_locations

PATIENCE = 4
"""Of the time that a check has: Dagster alone takes seconds to import."""


def look(at: Installation) -> Iterator[Finding]:
    try:
        found = code_locations(at.home.project)
    except CodeLocationUnusable as error:
        yield of_error("code location", error)
        return
    if not found:
        yield noted(
            "code location",
            found=f"{at.home.project} declares none",
            fix="Run this in the folder that has definitions.py, or make one: ai-assets new NAME",
        )
    for location in found:
        yield _loaded(location, at)


def _loaded(location: CodeLocation, at: Installation) -> Finding:
    """What definitions record when they load goes into a folder that is removed; no store is opened for them."""
    what = f"code location {location.name}"
    with TemporaryFolder("doctor") as folder:
        result, log = folder / "result.json", folder / "log"
        home = replace(
            at.home,
            root=folder / "home",
            project=location.project,
            declared_state_url=None,
            data_url=None,
            declared_environment=LOCAL,
            declared_operations=at.home.operations,
        ).ensure()
        process = child(
            "ai_assets.ops.trial_load",
            [str(result), spec_of(location)],
            home=home,
            folder=location.project,
            told={STATE_URL_VARIABLE: "", DATA_URL_VARIABLE: "", ENVIRONMENT_VARIABLE: LOCAL, UP_VARIABLE: ""},
            log=log,
        )
        late_s = (PATIENCE - 1) * at.timeout_s
        try:
            process.wait(timeout=late_s)
        except subprocess.TimeoutExpired:
            found = f"it was not loaded within {late_s:g} s"
            return wrong(what, found=found, fix="Look what it does when it is imported.")
        finally:
            process.kill()
            process.wait()
        loaded = TrialLoad.read(result)
        if loaded is not None and loaded.error is None:
            return fine(what, f"it loads, with {len(loaded.collections)} collection(s)")
        said = loaded.error if loaded is not None else last_words(log) or "the process ended without a word"
    return wrong(what, found=str(said), fix="Correct it there: nothing runs before it loads.")
