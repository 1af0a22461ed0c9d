"""How many kills there are, and for what."""

from dataclasses import dataclass

SHARES = {
    "download": 32,
    "extraction": 26,
    "cross-entropy": 20,
    "self-critical": 20,
    "package": 12,
    "database": 12,
    "registration": 20,
    "promotion": 30,
    "train": 14,
    "score": 12,
    "spark": 6,
    "promote": 8,
}
"""How the kills of a campaign are divided among its storms."""
COSTLY = ("package", "train", "score", "spark", "promote")
"""Each kill of these takes ten seconds and more: not in the short form."""
LONG = 100
"""Kills from which on a campaign is the long form."""


@dataclass(frozen=True)
class Kill:
    """One that broke something once, to be tried for ever: of a job, by its number, at a write."""

    job: int
    write: int


FAILED = {"download": (Kill(0, 9),), "database": (Kill(0, 12),), "promotion": (Kill(2, 5),)}
"""Kills that broke something once, by storm: always among its kills."""


def kills_of(name: str, total: int) -> int:
    """How many of the campaign's kills are for this storm."""
    if total < LONG and name in COSTLY:
        return 0
    among = sum(SHARES.values()) - (sum(SHARES[costly] for costly in COSTLY) if total < LONG else 0)
    return max(1, round(total * SHARES[name] / among))
