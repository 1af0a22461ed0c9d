import ast
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from components.decoder.caption import Search
from components.model.bundle import bundle
from components.model.captioner import Captioner
from components.source_code import OURS

ALONE = """
import json, runpy, sys
from types import SimpleNamespace
import pandas as pd

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ours!r}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocked())
package, photo = sys.argv[1:]
model = runpy.run_path(package + "/model.py")["CaptionerModel"]()
model.load_context(SimpleNamespace(artifacts={{"captioner": package + "/captioner"}}))
found = model.predict(pd.DataFrame({{"image": [open(photo, "rb").read(), b"no image"]}}))
json.dump([found["caption"].tolist(), found["error"].tolist(), [m for m in sys.modules if m in {ours!r}]], sys.stdout)
"""


@pytest.fixture(scope="module")
def tree() -> ast.Module:
    return ast.parse(bundle("components.model.pyfunc_model"))


def test_the_bundle_imports_nothing_of_ours(tree: ast.Module) -> None:
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {"mlflow", "numpy", "tensorflow"} <= imported
    assert not {name.partition(".")[0] for name in imported} & set(OURS)
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]


def test_no_two_modules_define_the_same_name(tree: ast.Module) -> None:
    defined = [
        node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)
    ]
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        defined += [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
    assert {"CaptionerModel", "Captioner", "Vocabulary", "read_pixels", "BadImageError"} <= set(defined)
    assert [name for name, times in Counter(defined).items() if times > 1] == []


def test_what_a_module_needs_stands_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = {
        "base": "ONE = 1\n",
        "left": "from components_of_test.base import ONE\nTWO = ONE + 1\n",
        "right": "from components_of_test.base import (\n    ONE,\n)\nTHREE = ONE + 2\n",
        "top": "import math\nfrom components_of_test.left import TWO\nfrom components_of_test.right import THREE\n"
        "FIVE = math.fsum([TWO, THREE])\n",
    }
    folder = tmp_path / "components_of_test"
    folder.mkdir()
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("components.source_code.OURS", ("components_of_test",))
    source = bundle("components_of_test.top")
    assert source.count("ONE = 1") == 1
    names: dict[str, object] = {}
    exec(compile(source, "bundle", "exec"), names)
    assert names["FIVE"] == 5


def test_a_module_that_is_not_there_is_named() -> None:
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        bundle("nowhere")


def test_the_bundle_captions_where_the_project_is_not_installed(
    package: Path, photograph: Callable[[int], bytes], tmp_path: Path
) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(photograph(1))
    command = [sys.executable, "-I", "-c", ALONE.format(ours=OURS), str(package), str(photo)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    captions, errors, ours = json.loads(done.stdout)
    captioner = Captioner(package / "captioner")
    embeddings, _ = captioner.embed([photograph(1)])
    ((best,),) = captioner.caption(embeddings, Search())
    assert captions == [best.text, ""]
    assert [bool(error) for error in errors] == [False, True]
    assert ours == []
