"""What the weights of a model were trained on, and how that record travels with them."""
