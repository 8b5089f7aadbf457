"""What is trained and how it is scored: tensors in and out, no languages and no files."""
