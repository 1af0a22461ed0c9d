"""The demo data set as a remote one: below `scenes://train=600,dev=100` lie that many scenes of each split."""

import hashlib
import re
from functools import lru_cache
from io import BytesIO
from typing import Any, Final

from fsspec import AbstractFileSystem

from components.demo.scenes import draw_archives

SEED: Final = 6


class SceneFileSystem(AbstractFileSystem):  # type: ignore[misc]  # it has no types
    """Draws the archives that are asked for (see `draw_archives`), so that they are obtained as downloads are."""

    protocol = "scenes"

    def info(self, path: str, **_: object) -> dict[str, Any]:  # noqa: D102 - see AbstractFileSystem
        content = self._content(path)
        digest = hashlib.sha256(content).hexdigest()
        return {"name": path, "type": "file", "size": len(content), "sha256": digest}

    def _open(self, path: str, *_: object, **__: object) -> BytesIO:
        return BytesIO(self._content(path))

    def _content(self, path: str) -> bytes:
        counts, _, name = path.partition("/")
        try:
            return _draw(counts)[name]
        except KeyError as error:
            raise FileNotFoundError(path) from error


@lru_cache(maxsize=1)
def _draw(counts: str) -> dict[str, bytes]:
    """The archives, by name, of the counts in an address."""
    images = {split: int(count) for split, count in re.findall(r"(\w+)=(\d+)", counts)}
    return draw_archives(images, SEED)
