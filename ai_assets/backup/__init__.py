"""Backups of a home: content-addressed, incremental, and restored at another path or on another machine."""
