from pathlib import Path
from typing import Any

import pytest

from components import hardware
from components.errors import ConfigurationError
from components.hardware import require_bfloat16


def on_cpu(monkeypatch: pytest.MonkeyPatch, cpuinfo: str | OSError) -> None:
    """A machine without a GPU, whose /proc/cpuinfo says this, or is not there."""
    read_text = Path.read_text

    def read(self: Path, *args: Any, **options: Any) -> str:
        if self != Path("/proc/cpuinfo"):
            return read_text(self, *args, **options)
        if isinstance(cpuinfo, OSError):
            raise cpuinfo
        return cpuinfo

    monkeypatch.setattr(hardware, "has_gpu", lambda: False)
    monkeypatch.setattr(Path, "read_text", read)


def test_bfloat16_is_refused_on_a_cpu_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    on_cpu(monkeypatch, "flags\t\t: fpu sse4_2 avx2 avx512f avx512_vnni\n")
    with pytest.raises(ConfigurationError, match=r"encoder\.precision: this CPU has no bfloat16; use float32"):
        require_bfloat16()


@pytest.mark.parametrize(
    "cpuinfo",
    ["flags\t\t: avx512f avx512_bf16\n", "flags\t\t: amx_bf16 amx_tile\n", "Features\t: asimd bf16\n", OSError("none")],
)
def test_bfloat16_is_allowed_where_the_cpu_has_it_or_does_not_tell(
    monkeypatch: pytest.MonkeyPatch, cpuinfo: str | OSError
) -> None:
    on_cpu(monkeypatch, cpuinfo)
    require_bfloat16()


def test_bfloat16_is_allowed_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    on_cpu(monkeypatch, "flags\t\t: fpu sse4_2\n")
    monkeypatch.setattr(hardware, "has_gpu", lambda: True)
    require_bfloat16()
