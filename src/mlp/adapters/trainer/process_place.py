"""Where this process runs, and what a `Trainer` is told because of it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlp.core.errors import ConfigurationError
from mlp.core.launch.launch import Launch


@dataclass(frozen=True, slots=True)
class Placement:
    """Where this process runs: one of those that are launched to train one model."""

    launch: Launch
    checkpoints: Path | str | None = None
    """Where this stage's checkpoints go, seen by all nodes: a directory, or an address such as
    s3://BUCKET/PATH; None outside of a run."""
    run_id: str | None = None
    stage: str | None = None
    """The stage's name in mlp.yaml, for messages."""
    save_dir: Path | None = None
    """The directory that Lightning is told for files beside the checkpoints."""


def placed(placement: Placement, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """`kwargs` with devices, nodes and strategy of the placement where the user leaves them open.

    Outside of a run mlp launched nothing that they could contradict. Raises ConfigurationError
    where they do.
    """
    strategy = "ddp" if placement.launch.strategy == "ddp" else "auto"
    launched = {"devices": placement.launch.processes_per_node, "num_nodes": placement.launch.nodes}
    if placement.run_id is None:
        return {**launched, "strategy": strategy, **kwargs}
    _refuse_contradictions(placement, kwargs)
    chosen = {**launched, "strategy": strategy, **kwargs}
    if chosen["devices"] in _ANY_DEVICES:
        chosen["devices"] = placement.launch.processes_per_node
    if chosen["strategy"] == "auto":
        chosen["strategy"] = strategy
    return chosen


_ANY_DEVICES = ("auto", -1, "-1")


def _refuse_contradictions(placement: Placement, kwargs: Mapping[str, Any]) -> None:
    """ConfigurationError where Lightning would wait for, or start, processes that mlp did not."""
    section = f"launch.{placement.stage or 'STAGE'}"
    devices, nodes = kwargs.get("devices", "auto"), kwargs.get("num_nodes", placement.launch.nodes)
    if devices not in _ANY_DEVICES and _count(devices) != placement.launch.processes_per_node:
        raise ConfigurationError(
            f"mlp.trainer(devices={devices!r}), but {placement.launch.processes_per_node}"
            " process(es) per node were launched",
            fix=f"leave devices out, and set {section}.processes_per_node in mlp.yaml",
        )
    if nodes != placement.launch.nodes:
        raise ConfigurationError(
            f"mlp.trainer(num_nodes={nodes!r}), but {placement.launch.nodes} node(s) were launched",
            fix=f"leave num_nodes out, and set {section}.nodes in mlp.yaml",
        )
    if placement.launch.strategy == "ddp" and not _is_ddp(kwargs.get("strategy", "auto")):
        raise ConfigurationError(
            f"mlp.trainer(strategy={kwargs['strategy']!r}), but the launch is for ddp",
            fix=f"leave strategy out, and set {section}.strategy in mlp.yaml",
        )


def _count(devices: Any) -> int:
    """How many devices Lightning understands by `devices`: "2", 2, [0, 1] and "0,1" are two."""
    if isinstance(devices, str):
        numbers = [n for n in devices.split(",") if n.strip()]
        return len(numbers) if "," in devices else int(devices)
    return devices if isinstance(devices, int) else len(devices)


def _is_ddp(strategy: Any) -> bool:
    """Whether `strategy` is DDP among processes that someone else starts."""
    from pytorch_lightning.strategies import DDPStrategy

    if isinstance(strategy, str):
        return bool(re.fullmatch(r"auto|ddp(_find_unused_parameters_\w+)?", strategy))
    return isinstance(strategy, DDPStrategy)
