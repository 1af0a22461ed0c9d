"""The contracts' documentation, written from the suites themselves: `python -m data_contracts.document`."""

import sys
from collections.abc import Sequence

from data_contracts.limits import Limits
from data_contracts.rules import Suite
from data_contracts.runner import columns_suite
from data_contracts.suites import captions, drift, embeddings, images, predictions, training_set, vocabulary

PLAIN = str.maketrans({"|": "/", "<": "&lt;"})
HEAD = """# What the line accepts

Written by `make docs` from `data_contracts/`; edit the suites, not this page. A broken *critical* rule stops the run
with exit code 3 before anything expensive is done; a broken *warning* is shown at its end. The numbers are the defaults
of the limits below, which a profile or `--set limits.NAME=…` changes.
"""


def contracts(limits: Limits) -> dict[str, list[Suite]]:
    """The suites of each contract, in the order in which a run meets them."""
    return {
        "Every table": [columns_suite("any")],
        "Captions": [captions.caption_suite(limits), captions.image_suite(limits), captions.split_suite(limits)],
        "Vocabulary": [vocabulary.word_suite(limits), vocabulary.coverage_suite(limits)],
        "Images": [images.photograph_suite(limits), images.split_suite(limits)],
        "Embeddings": [
            *(embeddings.vector_suite(limits), embeddings.image_suite()),
            *(embeddings.split_suite(limits), embeddings.store_suite(limits)),
        ],
        "Training set": [training_set.caption_suite(), training_set.split_suite(limits)],
        "Predictions": [predictions.row_suite(limits), predictions.image_suite(), predictions.caption_suite(limits)],
        "Drift": [drift.drift_suite(limits)],
    }


def document() -> str:
    """The page, in Markdown."""
    parts = [HEAD]
    for contract, suites in contracts(Limits()).items():
        rows = [
            (rule.meta["rule"], rule.severity.value, rule.meta["expected"], rule.meta["remedy"])
            for suite in suites
            for rule in suite.expectations
        ]
        parts.append(f"## {contract}\n\n{_table(('rule', 'severity', 'expected', 'what to do'), rows)}")
    fields = Limits.model_fields.items()
    limits = [(f"`{name}`", f"{field.default:g}", field.description or "") for name, field in fields]
    parts.append(f"## Limits\n\n{_table(('limit', 'default', 'why'), limits)}")
    return "\n".join(parts)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(' '.join(cell.split()).translate(PLAIN) for cell in line)} |\n" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(document())
