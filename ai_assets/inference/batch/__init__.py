"""Calls that travel as lines of a file, at the price of a provider's Batch API: submitted, collected, settled."""
