"""Tag texts over HTTP: a page to try a model, and a JSON endpoint."""
