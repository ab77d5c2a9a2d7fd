"""Paid calls: what is asked, what it costs, and a ledger that no call gets past."""
