"""What the commands that keep the line running print: the object for `--json`, and lines for people."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Column, Table

from components.redaction import redacted
from flows.commands.console import NEGATIVE, Output
from flows.commands.output import with_aliases

if TYPE_CHECKING:
    from components.dataset.discovery import Discovery
    from components.registry.transfer import ExportedModel
    from components.registry.versions import RegisteredModel
    from components.retention import CleanupCandidate
    from flows.services.doctor import Finding
    from flows.services.running import Services

SMALL = 50_000
"""Bytes; what is smaller is summed up."""
MAX_TRIED = 5
"""Other files that `init` names."""
MARKS = {"good": "  ", "notice": "? ", "broken": "! "}


def services(found: "Services", scheduled_on: Mapping[str, str]) -> list[str]:
    """Where everything is, what the scheduled flows work on, and how to run one now."""
    return [
        *(f"{name:26} {redacted(place)}" for name, place in {**asdict(found), **scheduled_on}.items()),
        f"To run it now: PREFECT_API_URL={found.prefect}/api prefect deployment run score-images/score-nightly",
        "Ready. Ctrl-C ends it.",
    ]


def finding(found: "Finding") -> list[str]:
    """One finding of the doctor with its remedy."""
    line = f"{MARKS[found.state]}{found.subject:10} {found.message}"
    return [line, f"{'':12} → {found.remedy}"] if found.remedy else [line]


def findings(found: Sequence["Finding"]) -> Output:
    """All of them, whose lines are printed as they come."""
    good = all(each.state != "broken" for each in found)
    return Output({"good": good, "findings": [*map(asdict, found)]}, (), 0 if good else NEGATIVE)


def exported(found: "ExportedModel") -> Output:
    """Where the file is and what is in it."""
    size = f"{found.evaluations} evaluations, {found.files} files, {found.bytes / 1e6:.0f} MB"
    lines = [f"{found.model.uri} with {size}", f"exported  {found.path}"]
    facts = {"path": found.path, "model_uri": found.model.uri, "evaluations": found.evaluations, "bytes": found.bytes}
    return Output(facts, lines)


def imported(model: "RegisteredModel") -> Output:
    """Which version it is now."""
    facts = {"model_uri": model.uri, "version": model.version, "aliases": list(model.aliases)}
    return Output(facts, [f"imported  {with_aliases(model)}"])


def relocated(addresses: int) -> Output:
    """How many addresses were rewritten."""
    message = (
        f"{addresses} addresses point to this folder now" if addresses else "Nothing to do: all addresses are right"
    )
    return Output({"addresses": addresses}, [message])


def cleaning(plan: Sequence["CleanupCandidate"], freed: int | None) -> Output:
    """What can be freed, the largest first, or was."""
    total = sum(each.bytes for each in plan)
    rows = [asdict(each) | {"used": each.used.isoformat()} for each in plan]
    table = Table("kind", Column("what", overflow="fold"), "MB", "last used", "why", box=None, header_style="bold")
    small = [each for each in plan if each.bytes < SMALL]
    for each in sorted((each for each in plan if each.bytes >= SMALL), key=lambda each: -each.bytes):
        name = Path(each.name).name if each.kind == "log" else each.name
        table.add_row(each.kind, name, f"{each.bytes / 1e6:.1f}", f"{each.used:%Y-%m-%d}", each.why)
    if small:
        megabytes = sum(each.bytes for each in small) / 1e6
        table.add_row("", f"and {len(small)} smaller ones", f"{megabytes:.1f}", "", "--json lists them")
    if freed is not None:
        end = f"{freed / 1e6:,.0f} MB freed"
    else:
        end = f"{total / 1e6:,.0f} MB can be freed; run again with --yes." if plan else "Nothing to delete."
    return Output({"leftovers": rows, "bytes": total, "freed": freed}, [table, end] if plan else [end])


def page(page: Path, table: Path | None) -> Output:
    """Where the page of predictions is, and their CSV file."""
    lines = [f"page  {page}", *([f"csv   {table}"] if table else [])]
    return Output({"page": page, "csv": table}, lines)


def discovered(found: "Discovery", profile: Path) -> Output:
    """What `init` found, and how to go on."""
    from components.dataset.new_profile import language_of

    language = language_of(found.table["tokens"])
    facts = {
        "profile": profile,
        "photographs": len(found.listing.inputs),
        "with_captions": found.photographs,
        "captions": len(found.table),
        "without_captions": found.without,
        "missing": found.missing,
        "source": {"images": found.images, "captions": found.captions, **found.source},
        "language": language,
        "tried": found.tried,
    }
    ignored = found.listing.summary()
    lines = [
        f"{found.root / found.images}: {len(found.listing.inputs):,} photographs{f'; {ignored}' if ignored else ''}",
        f"{found.captions}: {len(found.table):,} captions of {found.photographs:,} of them"
        + (f", {language} by their words" if language else ""),
        *_some(found.without, "photographs have no captions and are not trained on"),
        *_some(found.missing, "photographs have captions and are not there"),
        *(f"not used: {text}" for text in found.tried[:MAX_TRIED]),
        f"Wrote {profile}. Go on with:",
        f"  captioning check --profile {profile}       # seconds: is it fit to be trained on?",
        f"  captioning train --profile {profile}       # minutes: from photographs to a registered model",
        f"  captioning score --images {found.root / found.images} --out results    # captions of all, and their page",
    ]
    return Output(facts, lines)


def _some(names: Sequence[str], what: str) -> list[str]:
    first = ", ".join(names[:3])
    return [f"{len(names):,} {what}: {first}{', …' if len(names) > 3 else ''}"] if names else []
