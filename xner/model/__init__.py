"""The network, its training step and its metrics; they take and return tensors and know neither languages nor files."""
