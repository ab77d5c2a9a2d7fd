"""What programs ask the desk for: they know it by a number instead of its name, and never sign in."""

HEALTH, READY, METRICS = "/health", "/ready", "/metrics"
FOR_MACHINES = frozenset({HEALTH, READY, METRICS})
