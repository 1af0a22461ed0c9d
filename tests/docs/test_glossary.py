import re
from pathlib import Path

from components import config, training_config

ROOT = Path(__file__).parents[2]


def test_every_key_of_a_profile_is_explained() -> None:
    terms = set(re.findall(r"`(\w+)`", (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")))
    declared = {**vars(config), **vars(training_config)}.values()
    sections = [each for each in declared if isinstance(each, type) and issubclass(each, config.Section)]
    keys = {key for section in sections for key in section.model_fields}
    assert keys - terms == set()
