"""Glue from an experiment to a model in production that retrains itself.

What a training script uses: `trainer`, `log`, `log_model`. Each is imported on first use, so that
`import mlp` costs nothing.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["log", "log_model", "trainer"]

if TYPE_CHECKING:
    from mlp.runtime.training import log, log_model, trainer


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'mlp' has no attribute {name!r} (have: {', '.join(__all__)})")
    from mlp.runtime import training

    return getattr(training, name)
