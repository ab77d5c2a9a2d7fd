"""Scores against golden data, and the gates that judge them."""
