"""What the commands that train, judge and caption print: for people, or as JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from components.archives.listing import Listing
from components.decoder.caption import percent
from flows.commands.console import console, print_json

if TYPE_CHECKING:
    from components.decoder.caption import Caption
    from components.evaluation.comparison import Difference
    from components.evaluation.summary import Summary
    from components.registry.versions import RegisteredModel
    from data_contracts.report import RuleResult
    from flows.check import CheckResult
    from flows.commands.photos import CaptionedPhoto
    from flows.evaluate import EvaluationResult
    from flows.promote import PromotionResult
    from flows.score import ScoringResult
    from flows.train import TrainingResult

MAX_ROWS = 5
"""Rows that break a rule."""


def training(result: "TrainingResult", as_json: bool) -> int:
    """Stages, scores, a few captions, gallery and model. Returns how many photographs could not be read."""
    stages = [{"name": s.stage, "seconds": round(s.seconds, 2), "reused": s.reused} for s in result.stages]
    if as_json:
        print_json(
            run_id=result.run_id,
            model_uri=result.model.uri,
            version=result.model.version,
            bytes=result.model_bytes,
            metrics=result.summary.metrics,
            report=str(result.gallery),
            stages=stages,
            warnings=[rule.rule for rule in result.warnings],
            unreachable=_pairs(result.unreachable),
        )
        return len(result.unreachable)
    table = Table("stage", "seconds", "", box=None, header_style="bold")
    for stage in stages:
        table.add_row(str(stage["name"]), f"{stage['seconds']:.1f}", "reused" if stage["reused"] else "")
    out = console()
    out.print(table)
    _warnings(out, result.warnings)
    _scores(out, result.summary)
    for name, caption in result.summary.examples:
        out.print(f"  {name}  {caption}")
    out.print(f"gallery  {result.gallery}")
    aliases = f" ({', '.join(result.model.aliases)})" if result.model.aliases else ""
    out.print(f"model    {result.model.uri}{aliases}, {result.model_bytes / 1e6:.0f} MB")
    if "champion" not in result.model.aliases:
        out.print("         The champion stays another version, and is what commands use; to use this one:")
        out.print(f"         captioning caption --model {result.model.uri} PHOTO")
    _unreachable(out, result.unreachable)
    return len(result.unreachable)


def check(result: "CheckResult", as_json: bool) -> bool:
    """Every rule, the broken ones with what to do. Returns whether no critical rule is broken."""
    passed = all(report.passed for report in result.reports)
    rules = [rule for report in result.reports for rule in report.rules]
    if as_json:
        names = ("table", "rule", "severity", "passed", "observed", "expected", "offenders")
        line = [{name: getattr(rule, name) for name in names} for rule in rules]
        print_json(passed=passed, rules=line, unreachable=_pairs(result.unreachable))
        return passed
    out = console()
    for report in result.reports:
        verdict = "passed" if report.passed else "broken"
        out.print(f"{report.table}: {verdict}, {report.rows:,} rows, {len(report.rules)} rules")
        for rule in report.violations + report.warnings:
            found = f"expected {rule.expected}; found {rule.observed}. {rule.remedy}"
            out.print(f"  {rule.severity}: {rule.table}, {rule.rule}: {found}")
            for offender in rule.offenders[:MAX_ROWS]:
                out.print(f"    {offender}")
            if rule.count > MAX_ROWS:
                out.print(f"    … and {rule.count - MAX_ROWS:,} more: the page has the first {len(rule.offenders)}")
    _unreachable(out, result.unreachable)
    out.print(f"page  {result.page}")
    return passed


def evaluation(result: "EvaluationResult", as_json: bool) -> int:
    """The scores and the gallery. Returns the photographs not read for now."""
    summary = result.summary
    if as_json:
        print_json(
            run_id=result.run_id,
            model_uri=result.model.uri,
            split=summary.split,
            images=summary.images,
            tokenizer=summary.tokenizer,
            metrics=summary.metrics,
            intervals=summary.intervals,
            against=result.against and result.against.uri,
            differences=[asdict(found) | {"verdict": found.verdict} for found in result.differences],
            report=str(result.gallery),
            unreachable=_pairs(result.unreachable),
        )
        return len(result.unreachable)
    out = console()
    out.print(f"{result.model.uri} on {summary.split}, {summary.images:,} images")
    _warnings(out, result.warnings)
    _scores(out, summary)
    if result.against:
        _differences(out, result.against.uri, result.differences)
    out.print(f"gallery  {result.gallery}")
    _unreachable(out, result.unreachable)
    return len(result.unreachable)


def promotion(result: "PromotionResult", as_json: bool) -> bool:
    """What was decided and why. Returns whether the challenger is the champion now."""
    decision, before = result.decision, result.champion
    if as_json:
        print_json(
            run_id=result.run_id,
            challenger=result.challenger.uri,
            champion_before=before and before.uri,
            **asdict(decision),
        )
        return decision.promote
    out = console()
    line = "is the champion now" if decision.promote else "does not become champion"
    out.print(f"{result.challenger.uri} {line}")
    for reason in decision.reasons:
        out.print(f"  {'against it' if reason in decision.against else 'for it':10}  {reason}")
    if not decision.promote:
        out.print("Train or choose another (--version), or set other bounds of the rule, such as --set max_slower=2.")
    if decision.promote and before:
        out.print(f"the champion was {before.uri}; to go back: captioning rollback")
    return decision.promote


def rollback(was: "RegisteredModel", now: "RegisteredModel", as_json: bool) -> None:
    """Which model is champion again."""
    if as_json:
        print_json(was=was.uri, champion=now.uri)
    else:
        console().print(f"{now.uri} is the champion again; it was {was.uri}")


def scoring(result: "ScoringResult", as_json: bool) -> int:
    """Where the predictions are and what is in them. Returns how many images were quarantined."""
    if as_json:
        print_json(
            run_id=result.run_id,
            model_uri=result.model.uri,
            predictions=str(result.predictions),
            known=result.known,
            captioned=result.captioned,
            quarantined=[{"uri": uri, "error": error} for uri, error in result.quarantined],
            ignored=result.ignored,
        )
        return len(result.quarantined)
    out = console()
    known = f", {result.known:,} were there already" if result.known else ""
    line = f"{result.captioned:,} captioned, {len(result.quarantined):,} quarantined by {result.model.uri}{known}"
    out.print(line)
    for uri, error in result.quarantined[:20]:
        out.print(f"  {uri}: {error}")
    if len(result.quarantined) > 20:
        out.print(f"  … and {len(result.quarantined) - 20:,} more: see the rows whose status is quarantined")
    if ignored := Listing((), result.ignored).summary():
        out.print(ignored)
    _warnings(out, result.warnings)
    out.print(f"predictions  {result.predictions}")
    return len(result.quarantined)


def captions(found: Sequence["CaptionedPhoto"], as_json: bool) -> int:
    """Each photograph with its captions. Returns how many photographs could not be read."""
    bad = sum(bool(photo.error) for photo in found)
    if as_json:
        print_json(
            photos=[
                {
                    "photo": str(photo.photo),
                    "captions": [_caption(caption) for caption in photo.captions],
                    "error": photo.error,
                }
                for photo in found
            ]
        )
        return bad
    out = console()
    for photo in found:
        out.print(str(photo.photo), style="bold")
        for caption in photo.captions:
            out.print(f"  {caption.text}  ({percent(caption.logprob)})")
        if photo.error:
            out.print(f"  {photo.error}")
    return bad


def _caption(caption: "Caption") -> dict[str, Any]:
    words = zip([*caption.words, "<end>"], caption.logprobs, strict=True)
    by_word = [{"word": word, "logprob": logprob} for word, logprob in words]
    return {"caption": caption.text, "logprob": caption.logprob, "words": by_word}


def _scores(out: Console, summary: "Summary") -> None:
    """The official scores with their intervals, and on a line of their own what a good score can hide."""
    out.print(f"scores ({summary.tokenizer} tokenizer; 1 is what papers print as 100; 95 % intervals)")
    if summary.tokenizer == "unicode":
        from components.evaluation.summary import NOT_ENGLISH

        out.print(NOT_ENGLISH)
    for name, (low, high) in summary.intervals.items():
        out.print(f"  {name:8} {summary.metrics[name]:.3f}  {low:.3f} to {high:.3f}")
    others = {name: value for name, value in summary.metrics.items() if name not in summary.intervals}
    figures = (f"{name} {value:.3f}" if value < 20 else f"{name} {value:,.0f}" for name, value in others.items())
    out.print(f"  {'  '.join(figures)}")


def _differences(out: Console, against: str, differences: Sequence["Difference"]) -> None:
    out.print(
        f"against {against} (paired bootstrap; p: of so large a difference by chance; tie: none is shown)",
    )
    for found in differences:
        line = f"  {found.metric:8} {found.first:.3f} - {found.second:.3f} = {found.first - found.second:+.3f}"
        out.print(f"{line}  {found.low:+.3f} to {found.high:+.3f}  p {found.p:.4f}  {found.verdict}")


def _pairs(unreachable: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"photograph": name, "reason": reason} for name, reason in unreachable]


def _unreachable(out: Console, unreachable: Sequence[tuple[str, str]]) -> None:
    """What the run did without. It is no verdict on these files."""
    if not unreachable:
        return
    many = f"{len(unreachable):,} photographs" if len(unreachable) > 1 else "1 photograph"
    out.print(f"{many} could not be read, and this run is without them. Run again once that is fixed:")
    for name, error in unreachable[:MAX_ROWS]:
        out.print(f"  {name}: {error}")
    if len(unreachable) > MAX_ROWS:
        out.print(f"  … and {len(unreachable) - MAX_ROWS:,} more: see quarantine.csv of the run in MLflow")


def _warnings(out: Console, rules: Sequence["RuleResult"]) -> None:
    for rule in rules:
        line = f"warning: {rule.table}, {rule.rule}: expected {rule.expected}; found {rule.observed}. {rule.remedy}"
        out.print(line)
