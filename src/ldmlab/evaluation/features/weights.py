"""Finds the file of a network's weights: where the user says, where it lies already, or online."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import torch

from ldmlab.core.errors import UserError


def weights_file(given: str | None, key: str, what: str, url: str) -> Path:
    """The file of a network's weights, fetched where it is missing.

    Args:
        given: A file or an address of the user's; None for the published one.
        key: The configuration's key for it.
        what: What needs it, for messages.
        url: Where the published one lies.

    Raises:
        UserError: It is not there, and cannot be fetched.
    """
    if given is not None and "://" not in given:
        path = Path(given).expanduser()
        if not path.is_file():
            raise UserError(f"{key}={given} is no file: {what} needs one")
        return path
    address = given or url
    place = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(address).path).name
    if place.is_file():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(address, str(place), progress=False)
    except Exception as error:  # whatever stands between this machine and that address
        raise UserError(
            f"{what} needs {place.name}, and {address} cannot be fetched "
            f"({' '.join(str(error).split())}): put that file at {place}, or name it with "
            f"{key}=<file>"
        ) from error
    return place
