"""The price before the run: what a run would ask, what of it is paid already, and what the rest may cost."""
