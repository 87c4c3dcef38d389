"""Checks whether Hugging Face can be reached, before its client retries for half a minute."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit
from urllib.request import getproxies


def offline() -> bool:
    """Whether only what was downloaded before can be had.

    True where `HF_HUB_OFFLINE` says so, or where the endpoint's name is unknown and no proxy
    would know it.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return True
    if getproxies():
        return False
    try:
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, 443)
    except OSError:
        return True
    return False
