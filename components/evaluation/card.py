"""The model card: what a registered model is, what it was made from, how good it is, and what it must not do."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from components.evaluation.summary import Summary


def render_card(
    name: str,
    described: Mapping[str, Any],
    summary: Summary,
    *,
    words: int,
    megabytes: float,
    data: Mapping[str, str],
    licence: str,
) -> str:
    """The card as Markdown. `described` is the package's `model.json`, `data` says what the model was made from."""
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=False, undefined=StrictUndefined, keep_trailing_newline=True)
    facts = {"words": words, "megabytes": megabytes, "data": data, "licence": licence}
    return environment.get_template("card.md.j2").render(described, name=name, summary=summary, **facts)
