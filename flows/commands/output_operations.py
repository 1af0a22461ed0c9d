"""What the commands that keep the line running print: for people, or as JSON."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Column, Table

from components.redaction import redacted
from flows.commands.console import console, print_json

if TYPE_CHECKING:
    from components.registry.transfer import ExportedModel
    from components.registry.versions import RegisteredModel
    from components.retention import CleanupCandidate
    from flows.services.doctor import Finding
    from flows.services.running import Services

SMALL = 50_000
"""Bytes; what is smaller is summed up."""
MARKS = {"good": "  ", "notice": "? ", "broken": "! "}


def services(found: "Services", scheduled_on: Mapping[str, str]) -> None:
    """Where everything is, what the scheduled flows work on, and how one is run now."""
    out = console()
    for name, place in {**asdict(found), **scheduled_on}.items():
        out.print(f"{name:26} {redacted(place)}")
    out.print(
        f"Now, not at night: PREFECT_API_URL={found.prefect}/api prefect deployment run score-images/score-nightly"
    )
    out.print("Ready. Ctrl-C ends it.")


def ending() -> None:
    """That Ctrl-C was heard."""
    console().print("Ending. A run that this cuts off is gone on with by the next one of its kind.")


def findings(found: Iterable["Finding"], as_json: bool) -> bool:
    """Every finding as it comes, with its remedy. Returns whether nothing is broken."""
    out, seen = console(), []
    for finding in found:
        seen.append(finding)
        if not as_json:
            out.print(f"{MARKS[finding.state]}{finding.subject:10} {finding.message}")
            if finding.remedy:
                out.print(f"{'':12} → {finding.remedy}")
    good = all(finding.state != "broken" for finding in seen)
    if as_json:
        print_json(good=good, findings=[asdict(finding) for finding in seen])
    return good


def exported(found: "ExportedModel", as_json: bool) -> None:
    """Where the file is and what is in it."""
    if as_json:
        print_json(path=str(found.path), model_uri=found.model.uri, evaluations=found.evaluations, bytes=found.bytes)
        return
    message = f"{found.model.uri} with {found.evaluations} evaluations, {found.files} files, {found.bytes / 1e6:.0f} MB"
    console().print(f"{message}\nexported  {found.path}")


def imported(model: "RegisteredModel", as_json: bool) -> None:
    """Which version it is now."""
    if as_json:
        print_json(model_uri=model.uri, version=model.version, aliases=list(model.aliases))
        return
    aliases = f" ({', '.join(model.aliases)})" if model.aliases else ""
    console().print(f"imported  {model.uri}{aliases}")


def relocated(addresses: int, as_json: bool) -> None:
    """How many addresses were rewritten."""
    if as_json:
        print_json(addresses=addresses)
        return
    message = (
        f"{addresses} addresses follow the folder now" if addresses else "nothing was moved: all addresses are right"
    )
    console().print(message)


def cleaning(plan: Sequence["CleanupCandidate"], freed: int | None, as_json: bool) -> None:
    """What may go, the largest first; and what its going freed, unless it was only asked."""
    total = sum(leftover.bytes for leftover in plan)
    if as_json:
        rows = [asdict(leftover) | {"used": leftover.used.isoformat()} for leftover in plan]
        print_json(leftovers=rows, bytes=total, freed=freed)
        return
    out = console()
    table = Table("kind", Column("what", overflow="fold"), "MB", "last used", "why", box=None, header_style="bold")
    small = [leftover for leftover in plan if leftover.bytes < SMALL]
    for leftover in sorted((one for one in plan if one.bytes >= SMALL), key=lambda leftover: -leftover.bytes):
        name = Path(leftover.name).name if leftover.kind == "log" else leftover.name
        table.add_row(leftover.kind, name, f"{leftover.bytes / 1e6:.1f}", f"{leftover.used:%Y-%m-%d}", leftover.why)
    if small:
        total_of_small = sum(leftover.bytes for leftover in small) / 1e6
        table.add_row("", f"and {len(small)} smaller ones", f"{total_of_small:.1f}", "", "--json lists them")
    if plan:
        out.print(table)
    if freed is None:
        out.print(f"{total / 1e6:,.0f} MB may go; --yes frees them" if plan else "nothing may go")
    else:
        out.print(f"{freed / 1e6:,.0f} MB freed")
