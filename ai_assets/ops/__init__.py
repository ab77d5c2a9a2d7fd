"""The processes of an installation: their supervisor, and Dagster's web server as seen from here."""
