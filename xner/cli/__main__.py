"""Run ``python -m xner.cli``, the same as the command ``xner``."""

from xner.cli.main import main

if __name__ == "__main__":
    main()
