"""Upload a model folder to the hub."""

from pathlib import Path

from xner.errors import RunError, UserError


def check_login(repository: str) -> None:
    """Check that a repository's name is valid and that a token of the hub is there, before anything is computed.

    Raises:
        UserError: If not.
    """
    from huggingface_hub import get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined] # it is public, but not listed

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise UserError(f"push_to_hub={repository!r} is not a name on the hub; use one such as OWNER/NAME") from error
    if get_token() is None:
        raise UserError(f"push_to_hub={repository!r} needs a login; run hf auth login, or set HF_TOKEN")


def push_to_hub(folder: Path, repository: str, *, private: bool = False) -> str:
    """Upload a model folder in one commit to a repository of the hub, which is made if it does not exist.

    Args:
        folder: The folder.
        repository: The repository's name, such as ``OWNER/NAME``.
        private: Whether a new repository is private.

    Returns:
        The address of the repository.

    Raises:
        RunError: If the hub cannot be reached, or refuses it.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled  # type: ignore[attr-defined] # of httpx or httpx2

    try:
        api = HfApi()
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=address.repo_id, folder_path=folder, commit_message="Upload a model exported by xner")
    except (HTTPError, OfflineModeIsEnabled, OSError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise RunError(
            f"push_to_hub={repository!r}: the hub does not accept the upload ({reason}); {folder} is complete, so "
            "upload it with hf upload, or repeat the command with another output"
        ) from error
    return str(address)
