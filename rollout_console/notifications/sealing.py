"""Secrets that have to be read again: sealed with a key made from SECRET_KEY.

A token is stored hashed, since it is only ever compared. A signing secret and a service's address
are used, so they are encrypted instead (Fernet): a copy of the database alone does not give them
away, a copy of the settings beside it does.
"""

import base64
from typing import Final

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

_PURPOSE: Final = b"rollout_console.notifications"


class Unreadable(Exception):
    """Sealed with another SECRET_KEY; a sentence."""


def seal(text: str) -> str:
    """Return a text that only this console's key opens."""
    return _keys().encrypt(text.encode()).decode()


def unseal(sealed: str) -> str:
    """Return what was sealed, "" for nothing.

    Raises:
        Unreadable
    """
    if not sealed:
        return ""
    try:
        return _keys().decrypt(sealed.encode()).decode()
    except InvalidToken as error:
        raise Unreadable(
            "What was sealed here cannot be read with this SECRET_KEY: enter address and secret"
            " anew, or give the old key in SECRET_KEY_FALLBACKS."
        ) from error


def _keys() -> MultiFernet:
    return MultiFernet(
        [_key(str(secret)) for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)]
    )


def _key(secret: str) -> Fernet:
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=_PURPOSE).derive(secret.encode())
    return Fernet(base64.urlsafe_b64encode(derived))
