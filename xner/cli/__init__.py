"""The command line: it knows every other package, and none of them knows it."""
