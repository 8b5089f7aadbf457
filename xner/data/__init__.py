"""From sentences to batches."""
