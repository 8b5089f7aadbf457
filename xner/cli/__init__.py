"""The command line: it imports every other package, and none of them imports it."""

COMMANDS = ("fit", "validate", "test", "predict", "transfer")
"""The commands that need a Trainer."""

TOOLS = ("explore", "audit", "tag", "serve", "export", "report", "new-backbone")
"""The commands that do not."""
