"""The same as the command ``xner``, for those who have cloned the repository."""

from xner.cli.main import main

if __name__ == "__main__":
    main()
