"""The rule by which a challenger becomes champion: a pure function of what is known of both."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import PositiveFloat

from components.config import Section
from components.evaluation.bootstrap import Interval, interval, resample

Verdict = Literal["no champion", "other data", "better", "tie", "worse", "not comparable"]


class PromotionPolicy(Section):
    """When a challenger becomes champion."""

    minimum: Literal["tie", "better"] = "tie"
    """What its CIDEr must be, by a paired bootstrap: not worse than the champion's, or better."""
    allow_warnings: bool = True
    """Whether broken rules that are only warnings are no reason against it."""
    max_slower: PositiveFloat = 1.5
    """Times the champion's milliseconds a photograph."""
    max_larger: PositiveFloat = 3.0
    """Times the champion's bytes."""


@dataclass(frozen=True)
class Evidence:
    """What is known of a registered model."""

    model: str
    """`models:/name/version`."""
    data: str
    """Digest of the images and references it was evaluated on; empty when it never was. See `evaluation.summary`."""
    tokenizer: str
    cider: Mapping[int, float]
    """Each image's CIDEr-D."""
    broken: tuple[str, ...]
    """Critical rules of data contracts that were broken when it was evaluated."""
    warnings: tuple[str, ...]
    """Other broken rules."""
    milliseconds: float
    """From a photograph to its caption, both models on the same machine."""
    bytes: int
    """Size of the model's folder."""
    trained_on: str = ""
    """Where its data set lies; empty when that is not known. Models of different data are no rivals."""


@dataclass(frozen=True)
class Decision:
    """Whether the challenger becomes champion, and why."""

    promote: bool
    verdict: Verdict
    """How its CIDEr compares with the champion's."""
    difference: float | None
    """Challenger's CIDEr - champion's, on the same images."""
    interval: Interval | None
    """What holds it with 95 % confidence, by a paired bootstrap over images."""
    reasons: tuple[str, ...]
    """Everything that was looked at and what it showed; what speaks against the challenger first."""
    against: tuple[str, ...]
    """Those of them that speak against it."""


def decide(challenger: Evidence, champion: Evidence | None, policy: PromotionPolicy) -> Decision:
    """Whether the challenger is to become champion.

    Both are compared by what they were evaluated on alike. A champion that was trained on other data is no rival in
    speed and size, and where it was never evaluated on the challenger's data it is replaced.
    """
    verdict, difference, bounds, compared = _compare(challenger, champion)
    against: list[str] = []
    for_it = [compared]
    if verdict in ("worse", "not comparable") or (verdict == "tie" and policy.minimum == "better"):
        against.append(for_it.pop())
    if challenger.broken:
        against.append(f"broken when it was evaluated: {', '.join(challenger.broken)}")
    if challenger.warnings and not policy.allow_warnings:
        against.append(f"warnings when it was evaluated: {', '.join(challenger.warnings)}")
    if champion and not _are_rivals(challenger, champion):
        for_it.append(f"the champion was trained on {champion.trained_on}: speed and size are not compared")
    elif champion:
        for what, unit, mine, theirs, setting in (
            ("takes", "ms a photograph", challenger.milliseconds, champion.milliseconds, "max_slower"),
            ("has", "MB", challenger.bytes / 1e6, champion.bytes / 1e6, "max_larger"),
        ):
            limit = getattr(policy, setting)
            message = f"{what} {mine:.3g} {unit}, the champion {theirs:.3g} (at most {limit:g} times that: {setting})"
            (against if mine > limit * theirs else for_it).append(message)
    return Decision(not against, verdict, difference, bounds, (*against, *for_it), tuple(against))


def _are_rivals(challenger: Evidence, champion: Evidence) -> bool:
    known = challenger.trained_on and champion.trained_on
    return not known or challenger.trained_on == champion.trained_on


def _compare(challenger: Evidence, champion: Evidence | None) -> tuple[Verdict, float | None, Interval | None, str]:
    if not challenger.data:
        return "not comparable", None, None, f"{challenger.model} was never evaluated: captioning evaluate --model …"
    if champion is None:
        return "no champion", None, None, "there is no champion"
    if champion.model == challenger.model:
        return "not comparable", None, None, f"{champion.model} is the champion already"
    if challenger.data != champion.data and not _are_rivals(challenger, champion):
        message = (
            f"{champion.model}, trained on {champion.trained_on}, was not evaluated on these images: it is replaced"
        )
        return "other data", None, None, message
    for what, mine, theirs in (
        ("images and references", challenger.data, champion.data or "none"),
        ("tokenizer", challenger.tokenizer, champion.tokenizer),
        ("images", set(challenger.cider), set(champion.cider)),
    ):
        if mine != theirs:
            shown = "" if isinstance(mine, set) else f" ({mine} and {theirs})"
            how = f"captioning evaluate --model {challenger.model} --against {champion.model} …"
            return "not comparable", None, None, f"evaluated on different {what}{shown}; evaluate both: {how}"
    differences = np.array([challenger.cider[image] - champion.cider[image] for image in sorted(challenger.cider)])
    bounds = interval(resample(differences[:, None])[:, 0])
    verdict: Verdict = "better" if bounds.low > 0 else "worse" if bounds.high < 0 else "tie"
    message = (
        f"CIDEr {differences.mean():+.3f} ({bounds.low:+.3f} to {bounds.high:+.3f}) on {len(differences):,} images"
    )
    return verdict, float(differences.mean()), bounds, f"{verdict}: {message}"
