"""The errors this project raises on purpose. Each says what is wrong, where, and what to do."""

import re

LONGEST = 4000
"""Characters of a message; names and values in it come from files, and may be of any length."""
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What would write over the terminal, turn its text around, or cannot be encoded."""


def readable(text: str) -> str:
    """The text, fit to be shown: shortened in its middle, control characters escaped."""
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class CaptioningError(Exception):
    """Something the user can act on; shown without a traceback. The command line exits with `exit_code`."""

    exit_code = 1

    def __str__(self) -> str:
        return readable(super().__str__())


class ConfigurationError(CaptioningError):
    """A profile, an override or a command-line argument is wrong; nothing was started."""

    exit_code = 2


class BadImageError(CaptioningError):
    """The bytes given are not an image that can be read. Quarantines the image, never stops a run."""
