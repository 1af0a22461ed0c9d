"""The errors this project raises on purpose. Each says what is wrong, where, and what to do."""

from components.redaction import redacted


class CaptioningError(Exception):
    """Something the user can act on; shown without a traceback. The command line exits with `exit_code`."""

    exit_code = 1

    def __str__(self) -> str:
        return redacted(super().__str__())


class ConfigurationError(CaptioningError):
    """A profile, an override or a command-line argument is wrong; nothing was started."""

    exit_code = 2


class BadImageError(CaptioningError):
    """The bytes given are not an image that can be read. Quarantines the image, never stops a run."""
