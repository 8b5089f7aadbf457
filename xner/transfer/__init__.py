"""The transfer experiment: which stages it has, how one is run, and what it leaves behind."""
