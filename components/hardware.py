"""What this machine can compute with."""

from pathlib import Path

from components.errors import ConfigurationError


def has_gpu() -> bool:
    """Whether Keras computes on a GPU here."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        return bool(jax.default_backend() == "gpu")
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def require_bfloat16(setting: str = "encoder.precision") -> None:
    """Raises `ConfigurationError`, naming the setting, on CPUs that would emulate bfloat16, many times slower."""
    if has_gpu():
        return
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return  # not Linux: let it try
    if "bf16" not in flags:
        raise ConfigurationError(f"{setting}: this CPU has no bfloat16; use float32")
