"""A profile: a TOML file, with values replaced by the environment and then by `--set section.key=value`.

Every mistake is named, with the nearest key that is known.
"""

import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from textwrap import indent
from typing import Any, Literal, TypeVar, get_args

from pydantic import BaseModel, Field, ValidationError

from components.config import (
    DatasetConfig,
    EncoderConfig,
    EvaluationConfig,
    RegistryConfig,
    RuntimeConfig,
    Section,
    VocabularyConfig,
)
from components.errors import ConfigurationError
from components.files import read_file
from components.training_config import DecoderConfig, TrainingConfig
from data_contracts.limits import Limits

Part = TypeVar("Part", bound=Section)

MAX_BYTES = 1 << 16
"""Of a profile; those of the project have some 2,000."""
MOST_POINTS = 500

NOTEBOOK = Path(__file__).with_name("notebook.toml")
"""The recipe that is not the defaults of `components.config`."""


RENAMED = {
    "image_bottleneck": "image_projection",
    "logit_bottleneck": "output_projection",
    "min_captions_to_judge": "min_captions_together",
    "min_images_to_judge_drift": "min_images_for_drift",
    "standardise": "standardize_embeddings",
    "tied": "tie_embeddings",
    "warm_up": "warmup_fraction",
}
"""Keys that profiles of version 0.1 have."""


class Profile(Section):
    """One run's whole configuration."""

    name: str
    recipe: Literal["strong", "notebook"] = "strong"
    """What `decoder` and `training` are where the profile does not say: the defaults, or `components/notebook.toml`."""
    dataset: DatasetConfig
    vocabulary: VocabularyConfig = VocabularyConfig()
    encoder: EncoderConfig
    further_encoders: dict[str, EncoderConfig] = Field({})
    """By any name: encoders whose embeddings are put behind those of `encoder`, image by image."""
    decoder: DecoderConfig = DecoderConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    registry: RegistryConfig = RegistryConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    limits: Limits = Limits()
    """Thresholds of the data contracts."""

    @property
    def encoders(self) -> tuple[EncoderConfig, ...]:
        """All encoders, in the order of their numbers in an embedding."""
        return (self.encoder, *(self.further_encoders[name] for name in sorted(self.further_encoders)))


def load_profile(path: Path, overrides: Mapping[str, str]) -> Profile:
    """The profile in the TOML file `path`, with `overrides` (`section.key` → value as text) applied.

    Raises `ConfigurationError` naming every key that is unknown (with its nearest match) or has a bad value.
    """
    try:
        data = _parse(read_file(path, MAX_BYTES).decode("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        message = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationError(f"cannot read the profile {path}: {message}") from error
    except ValueError as error:
        raise ConfigurationError(f"the profile {path} is not valid TOML: {error}") from error
    data.setdefault("name", path.stem)
    for key, text in overrides.items():
        _set(data, key, text)
    if data.get("recipe") == "notebook":
        data = _merged(tomllib.loads(NOTEBOOK.read_text(encoding="utf-8")), data)
    try:
        return read_section(Profile, data)
    except ConfigurationError as error:
        message = f"profile {path}{', and what was set' if overrides else ''}"
        raise ConfigurationError(f"{message}:\n{indent(str(error), '  ')}") from error


def read_section(section: type[Part], values: Mapping[str, Any]) -> Part:
    """A section with these values, which may be text. Raises `ConfigurationError` as `load_profile` does."""
    try:
        return section.model_validate(values)
    except ValidationError as error:
        lines = [_explain(section, entry["loc"], entry["type"], entry["msg"]) for entry in error.errors()]
        raise ConfigurationError("\n".join(lines)) from error


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over`, with what only `under` has."""
    shared = [key for key in under.keys() & over.keys() if isinstance(under[key], dict) and isinstance(over[key], dict)]
    return under | over | {key: _merged(under[key], over[key]) for key in shared}


def _set(data: dict[str, Any], key: str, text: str) -> None:
    if (key + text).encode(errors="ignore").decode() != key + text:  # what the shell gave was no text
        raise ConfigurationError(f"cannot set {key}: it is not UTF-8")
    *sections, last = key.split(".")
    for section in sections:
        data = data.setdefault(section, {})
        if not isinstance(data, dict):
            raise ConfigurationError(f"cannot set {key}: {section} is a value, not a section")
    data[last] = _typed(key, text)


def _parse(text: str) -> dict[str, Any]:
    """What TOML says. Raises `ValueError` for what is none, and for numbers and nesting beyond Python's limits."""
    if any(line.count(".") > MOST_POINTS for line in text.splitlines()):  # tomllib takes the square of it
        raise ValueError(f"a line of it has more than {MOST_POINTS} points")
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def _typed(key: str, text: str) -> Any:
    """Lists and tables are read as TOML; everything else stays text, which the field's own type converts."""
    if not text.startswith(("[", "{")):
        return text
    try:
        return _parse(f"value = {text}")["value"]
    except ValueError as error:
        raise ConfigurationError(f"cannot set {key}: {text!r} is not valid TOML: {error}") from error


def _explain(root: type[Section], location: tuple[int | str, ...], kind: str, message: str) -> str:
    where = ".".join(map(str, location))
    if kind != "extra_forbidden":
        return f"{where or 'profile'}: {message.removeprefix('Value error, ')}"
    *sections, key = map(str, location)
    known = _keys_at(root, sections)
    near = [RENAMED[key]] if key in RENAMED else get_close_matches(key, known, n=1) or _sections_with(root, key)
    return f"{where}: unknown key; " + (f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}")


def _keys_at(section: type[BaseModel], location: list[str]) -> list[str]:
    for part in location:
        # A source's own name, between `sources` and its keys, is no section.
        field = section.model_fields.get(part)
        section = (field and _section_in(field.annotation)) or section
    return list(section.model_fields)


def _sections_with(root: type[Section], key: str) -> list[str]:
    """Where a key is known that was looked for in another section."""
    sections = {name: _section_in(field.annotation) for name, field in root.model_fields.items()}
    return [f"{name}.{key}" for name, section in sections.items() if section and key in section.model_fields]


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """The section that an annotation such as `X`, `X | None` or `dict[str, X]` speaks of."""
    options = (annotation, *get_args(annotation))
    return next((option for option in options if isinstance(option, type) and issubclass(option, BaseModel)), None)
