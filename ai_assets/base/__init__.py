"""What everything stands on: errors, the home of an installation, files, processes, text."""
