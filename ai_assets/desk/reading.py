"""What pages and API show, read for one person: every function here checks what they may see."""

from ai_assets.desk.access import NotSeen, ViewUnknown
from ai_assets.desk.audit_query import AuditFilter, audit_lines, audit_page
from ai_assets.desk.document_query import document_page
from ai_assets.desk.document_view import document_view
from ai_assets.desk.inbox import inbox
from ai_assets.desk.publication_query import publication_of
from ai_assets.desk.quality_query import quality_page
from ai_assets.desk.release_query import live_at, release_rows, targets_in_trouble
from ai_assets.desk.request_query import RequestState, request_state, request_view
from ai_assets.desk.runs_query import price, runs_rows, runs_view
from ai_assets.desk.spans_query import lanes, run_view
from ai_assets.desk.unanswered_query import unanswered_page

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
    "lanes",
    "live_at",
    "price",
    "publication_of",
    "quality_page",
    "release_rows",
    "request_state",
    "request_view",
    "run_view",
    "runs_rows",
    "runs_view",
    "targets_in_trouble",
    "unanswered_page",
]
