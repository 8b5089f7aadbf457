"""Turn sentences into batches."""
