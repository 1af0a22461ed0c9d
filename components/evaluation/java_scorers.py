"""METEOR and SPICE, which are Java programs: the official jars, driven here.

pycocoevalcap's own wrappers write into the package's folder, download models without being asked (SPICE), and wait for
ever when Java stops (METEOR).
"""

import contextlib
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from pycocoevalcap.meteor import meteor as meteor_package
from pycocoevalcap.spice import spice as spice_package

from components.errors import CaptioningError
from components.evaluation.tokenize import JAVA_OPTIONS, Tokenized

SPICE_MODELS: Final = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
"""What SPICE needs and no Python package brings: from Stanford CoreNLP 3.6.0."""


def meteor(truths: Tokenized, candidates: Tokenized, java: str) -> tuple[float, list[float]]:
    """METEOR 1.5 (Denkowski and Lavie 2014) of the corpus and of each image, 0…1; `java` is the command.

    Raises `CaptioningError` when Java fails.
    """
    jar = Path(meteor_package.__file__).with_name(meteor_package.METEOR_JAR)
    command = [java, "-Xmx2G", *JAVA_OPTIONS, "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]
    with (
        tempfile.TemporaryFile() as complaints,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            encoding="utf-8",
            errors="replace",
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            statistics = []
            for image, (candidate,) in candidates.items():
                fields = (text.replace("|||", "") for text in (*truths[image], candidate))
                process.stdin.write(" ||| ".join(("SCORE", *fields)) + "\n")
                process.stdin.flush()
                statistics.append(process.stdout.readline().strip())
            process.stdin.write(" ||| ".join(("EVAL", *statistics)) + "\n")
            process.stdin.flush()
            *images, corpus = [float(process.stdout.readline()) for _ in range(len(candidates) + 1)]
        except (OSError, ValueError) as error:
            complaints.seek(0)
            complaint = complaints.read().decode(errors="replace")[-500:].strip()
            raise CaptioningError(
                f"METEOR ({java}, {jar.name}) stopped: {complaint}\n"
                'Mend the Java installation (8 or newer, 2 GB of memory), or score with tokenizer="words".'
            ) from error
        finally:
            process.kill()
            with contextlib.suppress(OSError):  # unsent words to a dead process would hide the error above
                process.stdin.close()
    return corpus, images


def spice_folder() -> Path:
    """Where SPICE looks for its models."""
    return Path(spice_package.__file__).with_name("lib")


def missing_spice_models() -> list[str]:
    """The names of SPICE's models that are not there; without them it cannot be computed."""
    return [name for name in SPICE_MODELS if not (spice_folder() / name).is_file()]


def spice(truths: Tokenized, candidates: Tokenized, java: str) -> list[float]:
    """SPICE (Anderson et al. 2016) of each image, 0…1; the corpus' is their mean. `java` is the command.

    Raises `CaptioningError` when Java fails; SPICE 1.0 was written for Java 8, and newer ones may refuse it.
    """
    jar = Path(spice_package.__file__).with_name(spice_package.SPICE_JAR)
    items = [
        {"image_id": number, "test": candidate, "refs": truths[image]}
        for number, (image, (candidate,)) in enumerate(candidates.items())
    ]
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder, "captions.json"), Path(folder, "scores.json")
        given.write_text(json.dumps(items), encoding="utf-8")
        command = [java, "-Xmx8G", *JAVA_OPTIONS, "-jar", str(jar), str(given), "-out", str(found), "-silent"]
        answer = subprocess.run(command, capture_output=True, check=False, cwd=jar.parent)
        try:
            scores = {item["image_id"]: item["scores"]["All"]["f"] for item in json.loads(found.read_bytes())}
            return [float(scores[number]) for number in range(len(items))]
        except (OSError, ValueError, KeyError, TypeError) as error:
            complaint = answer.stderr.decode(errors="replace")[-500:].strip()
            raise CaptioningError(
                f"SPICE ({java}, {jar.name}) ended with exit code {answer.returncode}: {complaint}\n"
                f"Give it the Java it was written for (8), or take {' and '.join(SPICE_MODELS)} out of {spice_folder()}"
            ) from error
