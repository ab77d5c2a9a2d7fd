"""Builds the .pdf, .docx and .parquet documents of this collection from binaries.yaml.

    python collections/handbook/build_binaries.py [OUT]

OUT is the documents/ folder beside this file unless given. The same yaml and the same library
versions give the same bytes, so a rebuild changes no content hash.
"""

import datetime
import io
import sys
import zipfile
from pathlib import Path
from xml.sax.saxutils import escape

import docx
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

HERE = Path(__file__).resolve().parent
FIXED = datetime.datetime(2026, 10, 1)
INVOICE_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("invoice_id", "subject", "body", "supplier")] + [("total_eur", pa.float64())]
)


def blocks(text):
    """Yields ("head" | "item" | "para", str) and ("table", rows) in the order of the text."""
    rows = []
    for line in [*text.splitlines(), ""]:
        if " | " in line:
            rows.append([cell.strip() for cell in line.split("|")])
            continue
        if rows:
            yield "table", rows
            rows = []
        line = line.strip()
        if line.startswith("# "):
            yield "head", line[2:]
        elif line.startswith("- "):
            yield "item", line[2:]
        elif line:
            yield "para", line


def write_pdf(path, title, text):
    styles = getSampleStyleSheet()
    story = [Paragraph(escape(title), styles["Title"])]
    for kind, value in blocks(text):
        if kind == "table":
            table = Table(value, hAlign="LEFT")
            table.setStyle(TableStyle([("GRID", (0, 0), (-1, -1), 0.5, colors.grey)]))
            story += [table, Spacer(1, 10)]
        elif kind == "head":
            story.append(Paragraph(escape(value), styles["Heading2"]))
        elif kind == "item":
            story.append(Paragraph(escape(value), styles["Normal"], bulletText="•"))
        else:
            story += [Paragraph(escape(value), styles["Normal"]), Spacer(1, 6)]
    SimpleDocTemplate(str(path), pagesize=A4, title=title, author="Larkfield Logistics", invariant=1).build(story)


def write_docx(path, title, text):
    document = docx.Document()
    document.add_heading(title, level=1)
    for kind, value in blocks(text):
        if kind == "table":
            table = document.add_table(rows=0, cols=len(value[0]))
            for row in value:
                for cell, content in zip(table.add_row().cells, row, strict=True):
                    cell.text = content
        elif kind == "head":
            document.add_heading(value, level=2)
        elif kind == "item":
            document.add_paragraph(value, style="List Bullet")
        else:
            document.add_paragraph(value)
    properties = document.core_properties
    properties.title, properties.author = title, "Larkfield Logistics"
    properties.comments = ""
    properties.created = properties.modified = FIXED
    raw = io.BytesIO()
    document.save(raw)
    with zipfile.ZipFile(raw) as source, zipfile.ZipFile(path, "w") as target:
        for entry in source.infolist():
            info = zipfile.ZipInfo(entry.filename, date_time=(2026, 10, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(info, source.read(entry.filename))


def write_parquet(path, rows):
    rows = [{**row, "body": row["body"].strip()} for row in rows]
    pq.write_table(pa.Table.from_pylist(rows, schema=INVOICE_SCHEMA), path)


def main(out):
    spec = yaml.safe_load((HERE / "binaries.yaml").read_text(encoding="utf-8"))
    for entry in spec["documents"]:
        path = out / entry["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        write = {".pdf": write_pdf, ".docx": write_docx}[path.suffix]
        write(path, entry["title"], entry["text"])
    for entry in spec["invoices"]:
        path = out / entry["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_parquet(path, entry["rows"])
    print(f"{len(spec['documents'])} documents and {len(spec['invoices'])} tables in {out}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "documents")
