"""What watches and asks for runs: schedules and sensors as functions of a collection."""
