"""The pages of the desk: made on the server, whole without JavaScript. What they show comes from `reading`."""

from ai_assets.desk.pages.refusals import exception_handlers
from ai_assets.desk.pages.rendering import render
from ai_assets.desk.pages.routing import routes

__all__ = ["exception_handlers", "render", "routes"]
