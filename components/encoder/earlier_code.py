"""Code that gave the same embeddings as today's, so that a rename does not embed every photograph again.

`earlier_code.json` maps the digest of the code as it is to the digests of the code that gave the same numbers. A change
is noted there only once a test has shown that they are the same.
"""

import hashlib
import json
from pathlib import Path

NOTED = Path(__file__).with_name("earlier_code.json")


def earliest(code: dict[str, str]) -> dict[str, str]:
    """The earliest code (digests by name) that is known to give the same numbers as this; else this."""
    noted: dict[str, dict[str, str]] = json.loads(NOTED.read_text(encoding="utf-8"))
    return noted.get(digest_of(code), code)


def digest_of(code: dict[str, str]) -> str:
    """SHA-256 of the digests by name, 64 hex digits."""
    return hashlib.sha256(json.dumps(code, sort_keys=True).encode()).hexdigest()
