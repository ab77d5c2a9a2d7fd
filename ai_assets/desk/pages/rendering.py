"""Templates, and what every page is given. Everything is escaped; a name a template misspells is an error."""

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.requests import Request as HttpRequest
from starlette.responses import HTMLResponse

from ai_assets.desk.context import Desk
from ai_assets.desk.pages.wording import FILTERS, GLOBALS
from ai_assets.signoff.risk import LOW_CONFIDENCE

if TYPE_CHECKING:
    import jinja2

HERE = Path(__file__).parent.parent


@functools.cache
def environment() -> "jinja2.Environment":
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(FILTERS)
    made.globals.update(GLOBALS, static=_static, LOW_CONFIDENCE=LOW_CONFIDENCE)
    return made


@functools.cache
def _static(name: str) -> str:
    """The address of a static file, another one whenever its content changes, so that it may be cached."""
    digest = hashlib.sha256((HERE / "static" / name).read_bytes()).hexdigest()
    return f"/static/{name}?v={digest[:12]}"


def render(
    request: HttpRequest, template: str, context: Mapping[str, Any], status_code: int = 200
) -> HTMLResponse:  # fmt: skip
    """A page of the desk; `context` is what the template needs beyond who looks and where."""
    person = getattr(request.state, "person", None)
    given = {
        "person": person,
        "csrf": getattr(request.state, "csrf", ""),
        "path": request.url.path,
        "dagster_url": Desk.of(request).dagster_pages_for(person),
        **context,
    }
    return HTMLResponse(environment().get_template(template).render(given), status_code)
