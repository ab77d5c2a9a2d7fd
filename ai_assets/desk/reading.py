"""What pages and API show, read for one person: every function here checks what they may see."""

from ai_assets.desk.audit_reading import AuditFilter, audit_lines, audit_page
from ai_assets.desk.document_reading import document_page
from ai_assets.desk.document_view import document_view
from ai_assets.desk.inbox import inbox
from ai_assets.desk.publication_reading import publication_of
from ai_assets.desk.release_reading import live_at, release_rows
from ai_assets.desk.request_reading import RequestState, request_state, request_view
from ai_assets.desk.runs_reading import price, runs_rows, runs_view
from ai_assets.desk.sight import NotSeen, ViewUnknown
from ai_assets.desk.unanswered_reading import unanswered_page

__all__ = [
    "AuditFilter",
    "NotSeen",
    "RequestState",
    "ViewUnknown",
    "audit_lines",
    "audit_page",
    "document_page",
    "document_view",
    "inbox",
    "live_at",
    "price",
    "publication_of",
    "release_rows",
    "request_state",
    "request_view",
    "runs_rows",
    "runs_view",
    "unanswered_page",
]
