"""Addresses as they may be shown, logged and stored: without the login and the signature that they are opened with."""

import re

HIDDEN = "…"
_LOGIN = re.compile(r"(?<=://)(?:[^\s/?#\"'<>]+|[^\s/?#\"'<>:@]*:[^\s\"'<>]*)(?=@)")
_SECRET = r"(?:x-amz-|x-goog-)[\w-]+|[\w-]*(?:sig|signature|token|secret|passw|pwd|key|auth|credential)[\w-]*"
_VALUE = re.compile(rf"(?i)([?&;](?:{_SECRET})=)[^&;#\s\"'<>]+(?<![.,:!)])")


def redacted(text: str) -> str:
    """The text with … for what secrets the addresses in it have: logins, and values of a query that are keys."""
    return _VALUE.sub(rf"\g<1>{HIDDEN}", _LOGIN.sub(HIDDEN, text))


def without_login(address: str) -> str:
    """The address as somebody else may open it."""
    return _LOGIN.sub("", address).replace("://@", "://", 1)
