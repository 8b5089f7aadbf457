"""CPU and GPU accelerations, each exact."""
