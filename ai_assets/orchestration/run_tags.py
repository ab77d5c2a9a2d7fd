"""Tags that tell a run how to work."""

PATIENT_TAG = "ai_assets/asks"
PATIENT = "due"
"""Of a run for which no person named partitions: documents without a result are left alone until they are due."""
