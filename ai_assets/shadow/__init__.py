"""Shadows: a changed prompt or route of one stage, asked about documents of the lake beside what is live (ADR 121).

Nothing that is published or that a partition sees is changed here; answers are in the ledger, where a run finds them.
"""
