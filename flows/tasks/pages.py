"""Pages that people look at, linked from Prefect."""

from pathlib import Path

from prefect.artifacts import create_link_artifact, create_markdown_artifact

from components.registry import tracking


def link_page(run_id: str, file: str, page: Path, key: str, description: str) -> None:
    """Links a page of the MLflow run by an address that a browser opens; without an MLflow server it names the file."""
    address = tracking.page_of(run_id, file)
    if address.startswith("http"):
        create_link_artifact(address, page.name, key=key, description=description)
    else:  # browsers open no file from a page of a server
        create_markdown_artifact(f"{description}. Open this file:\n\n`{page}`\n", key=key, description=description)
