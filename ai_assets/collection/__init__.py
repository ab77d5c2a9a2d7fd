"""What a user declares of a collection: settings, partitions, questions to models."""
