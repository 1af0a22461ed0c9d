"""What the commands that train, evaluate and caption print: the object for `--json`, and lines for people."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from components.archives.listing import Listing
from components.decoder.caption import per_word
from flows.commands.console import BROKEN, NEGATIVE, QUARANTINED, Output

if TYPE_CHECKING:
    from captioning import Results
    from components.decoder.caption import Caption
    from components.evaluation.comparison import Difference
    from components.evaluation.summary import Summary
    from components.registry.versions import RegisteredModel
    from data_contracts.report import RuleResult
    from flows.check import CheckResult
    from flows.evaluate import EvaluationResult
    from flows.promote import PromotionResult
    from flows.score import ScoringResult
    from flows.train import TrainingResult

MAX_ROWS = 5
"""Rows of a list that may be long."""


def training(result: "TrainingResult") -> Output:
    """Stages, scores, a few captions, gallery and model."""
    model, stages = result.model, result.stages
    facts = {
        "run_id": result.run_id,
        "model_uri": model.uri,
        "version": model.version,
        "bytes": result.model_bytes,
        "metrics": result.summary.metrics,
        "report": result.gallery,
        "stages": [{"name": s.stage, "seconds": round(s.seconds, 2), "reused": s.reused} for s in stages],
        "warnings": [rule.rule for rule in result.warnings],
        "unreachable": _pairs(result.unreachable),
    }
    table = Table("stage", "seconds", "", box=None, header_style="bold")
    for stage in stages:
        table.add_row(stage.stage, f"{stage.seconds:.1f}", "reused" if stage.reused else "")
    lines: list[RenderableType] = [
        table,
        *map(_rule, result.warnings),
        *_scores(result.summary),
        *(f"  {name}  {caption}" for name, caption in result.summary.examples),
        f"gallery  {result.gallery}",
        f"model    {with_aliases(model)}, {result.model_bytes / 1e6:.0f} MB",
    ]
    if "champion" not in model.aliases:
        lines.append("Commands still use the champion. To use this version:")
        lines.append(f"  captioning caption --model {model.uri} PHOTO")
    lines += _unreachable(result.unreachable)
    return Output(facts, lines, QUARANTINED if result.unreachable else 0)


def check(result: "CheckResult") -> Output:
    """Every table's verdict, and the broken rules with what to do."""
    passed = all(report.passed for report in result.reports)
    columns = ("table", "rule", "severity", "passed", "observed", "expected", "offenders")
    rules = [{name: getattr(rule, name) for name in columns} for report in result.reports for rule in report.rules]
    lines: list[RenderableType] = []
    for report in result.reports:
        verdict = "passed" if report.passed else "broken"
        lines.append(f"{report.table}: {verdict}, {report.rows:,} rows, {len(report.rules)} rules")
        for rule in report.violations + report.warnings:
            lines.append(f"  {_rule(rule)}")
            lines += _few(rule.offenders, rule.count, f"the page has the first {len(rule.offenders)}", indent=4)
    if count := len(result.uncaptioned):
        lines.append(
            f"{count:,} {'photograph has' if count == 1 else 'photographs have'} no captions and will not be used"
        )
        lines += _few(result.uncaptioned, count, "--json lists them", indent=2)
    lines += [*_unreachable(result.unreachable), f"page  {result.page}"]
    code = (QUARANTINED if result.unreachable else 0) if passed else BROKEN
    facts = {"passed": passed, "rules": rules, "unreachable": _pairs(result.unreachable)}
    return Output({**facts, "uncaptioned": result.uncaptioned}, lines, code)


def evaluation(result: "EvaluationResult") -> Output:
    """The scores, how they compare with another model's, and the gallery."""
    summary, against = result.summary, result.against
    facts = {
        "run_id": result.run_id,
        "model_uri": result.model.uri,
        "split": summary.split,
        "images": summary.images,
        "tokenizer": summary.tokenizer,
        "metrics": summary.metrics,
        "intervals": summary.intervals,
        "against": against and against.uri,
        "side_by_side": result.side_by_side,
        "differences": [asdict(found) | {"verdict": found.verdict} for found in result.differences],
        "report": result.gallery,
        "unreachable": _pairs(result.unreachable),
    }
    lines = [
        f"{result.model.uri} on {summary.split}, {summary.images:,} images",
        *map(_rule, result.warnings),
        *_scores(summary),
        *(_differences(against, result.differences) if against else ()),
        f"gallery  {result.gallery}",
        *([f"side by side  {result.side_by_side}"] if result.side_by_side else []),
        *_unreachable(result.unreachable),
    ]
    return Output(facts, lines, QUARANTINED if result.unreachable else 0)


def promotion(result: "PromotionResult") -> Output:
    """The decision and its reasons."""
    decision, before = result.decision, result.champion
    facts = {"run_id": result.run_id, "challenger": result.challenger.uri, "champion_before": before and before.uri}
    reasons = (f"  {'against it' if why in decision.against else 'for it':10}  {why}" for why in decision.reasons)
    verdict = "is the champion now" if decision.promote else "does not become champion"
    lines = [f"{result.challenger.uri} {verdict}", *reasons]
    if result.side_by_side:
        lines.append(f"side by side  {result.side_by_side}")
    if not decision.promote:
        lines.append("Train or choose another (--version), or change the rule, such as --set max_slower=2.")
    elif before:
        lines.append(f"The champion was {before.uri}; to go back: captioning rollback")
    return Output(facts | asdict(decision), lines, 0 if decision.promote else NEGATIVE)


def rollback(was: "RegisteredModel", now: "RegisteredModel") -> Output:
    """Which model is champion again."""
    line = f"{now.uri} is the champion again; it was {was.uri}"
    return Output({"was": was.uri, "champion": now.uri}, [line])


def scoring(result: "ScoringResult") -> Output:
    """Where the predictions are and what is in them."""
    facts = {
        "run_id": result.run_id,
        "model_uri": result.model.uri,
        "predictions": result.predictions,
        "known": result.known,
        "captioned": result.captioned,
        "quarantined": [{"uri": uri, "error": error} for uri, error in result.quarantined],
        "ignored": result.ignored,
        "page": result.page,
    }
    bad = [f"{uri}: {error}" for uri, error in result.quarantined]
    known = f", {result.known:,} were there already" if result.known else ""
    ignored = Listing((), result.ignored).summary()
    lines = [
        f"{result.captioned:,} captioned, {len(bad):,} quarantined by {result.model.uri}{known}",
        *_few(bad, len(bad), "see the rows whose status is quarantined"),
        *([ignored] if ignored else []),
        *map(_rule, result.warnings),
        *(f"  {name}  {caption}" for name, caption in result.examples),
        f"predictions  {result.predictions}",
        *([f"page         {result.page}"] if result.page else []),
    ]
    return Output(facts, lines, QUARANTINED if bad else 0)


def captions(found: "Results") -> Output:
    """Each photograph with its captions, or why it has none."""
    photos = [
        {
            "photo": photo.name,
            "captions": [*map(_caption, photo.captions)],
            "unlike_training": photo.unlike_training,
            "error": photo.error,
        }
        for photo in found
    ]
    lines: list[RenderableType] = []
    for photo in found:
        lines.append(Text(photo.name, style="bold"))
        lines += [f"  {caption.text}  ({per_word(caption.logprobs):.0%} per word)" for caption in photo.captions]
        lines += [f"  {photo.error}"] if photo.error else []
    lines += [found.note] if found.note else []
    return Output({"photos": photos}, lines, QUARANTINED if any(photo.error for photo in found) else 0)


def with_aliases(model: "RegisteredModel") -> str:
    """The model's address, and the aliases that it has."""
    return f"{model.uri} ({', '.join(model.aliases)})" if model.aliases else model.uri


def _caption(caption: "Caption") -> dict[str, Any]:
    words = zip([*caption.words, "<end>"], caption.logprobs, strict=True)
    by_word = [{"word": word, "logprob": logprob} for word, logprob in words]
    return {"caption": caption.text, "logprob": caption.logprob, "words": by_word}


def _scores(summary: "Summary") -> Iterator[str]:
    """The official scores with their intervals, and on a line of their own what a good score can hide."""
    yield f"scores ({summary.tokenizer} tokenizer; 1 is what papers print as 100; 95 % intervals)"
    if summary.tokenizer == "unicode":
        from components.evaluation.summary import NOT_ENGLISH

        yield NOT_ENGLISH
    for name, (low, high) in summary.intervals.items():
        yield f"  {name:8} {summary.metrics[name]:.3f}  {low:.3f} to {high:.3f}"
    others = {name: value for name, value in summary.metrics.items() if name not in summary.intervals}
    figures = (f"{name} {value:.3f}" if value < 20 else f"{name} {value:,.0f}" for name, value in others.items())
    yield f"  {'  '.join(figures)}"


def _differences(against: "RegisteredModel", differences: Sequence["Difference"]) -> Iterator[str]:
    yield f"against {against.uri} (paired bootstrap; p: chance of a difference this large; tie: not significant)"
    for found in differences:
        line = f"  {found.metric:8} {found.first:.3f} - {found.second:.3f} = {found.first - found.second:+.3f}"
        yield f"{line}  {found.low:+.3f} to {found.high:+.3f}  p {found.p:.4f}  {found.verdict}"


def _rule(rule: "RuleResult") -> str:
    broken = f"{rule.severity}: {rule.table}, {rule.rule}"
    return f"{broken}: expected {rule.expected}; found {rule.observed}. {rule.remedy}"


def _few(rows: Sequence[str], count: int, where: str, indent: int = 2) -> list[str]:
    """The first of `count` rows, and where the others are."""
    shown = [*rows[:MAX_ROWS], *([f"… and {count - MAX_ROWS:,} more: {where}"] if count > MAX_ROWS else [])]
    return [f"{'':{indent}}{row}" for row in shown]


def _pairs(unreachable: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"photograph": name, "reason": reason} for name, reason in unreachable]


def _unreachable(unreachable: Sequence[tuple[str, str]]) -> list[str]:
    """The photographs that the run did without."""
    if not unreachable:
        return []
    many = f"{len(unreachable):,} photographs" if len(unreachable) > 1 else "1 photograph"
    head = f"{many} could not be read, and this run is without them. Run again once that is fixed:"
    rows = [f"{name}: {error}" for name, error in unreachable]
    return [head, *_few(rows, len(rows), "see quarantine.csv of the run in MLflow")]
