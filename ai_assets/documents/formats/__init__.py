"""Formats of files, one module each: `read(data) -> Read`. Adding one is a module and its line in `kinds.py`.

They run in the process of `parse_format_worker.py` alone, under its limits.
"""
