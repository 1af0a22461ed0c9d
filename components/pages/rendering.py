"""HTML pages from templates: all text is escaped, and no script runs but the page's own."""

import base64
import hashlib
import json
import math
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from components.decoder.caption import per_word
from components.pages.thumbnails import data_uri

TEMPLATES = Path(__file__).with_name("templates")


def render_page(name: str, *shared: str, **values: Any) -> str:
    """The page `name`, of its template and its script, with those that it shares; it loads nothing from a network."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"per_word": per_word, "probability": math.exp, "image": data_uri}
    script = "".join((TEMPLATES / f"{part}.js").read_text(encoding="utf-8") for part in ("common", *shared, name))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return environment.get_template(f"{name}.html.j2").render(script=script, script_digest=digest, **values)


def script_json(value: object) -> str:
    """JSON that can stand in a `<script>` and in a JavaScript file, whatever text is in it."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
