"""`mlp.trainer`'s door to Lightning, on real trainings of a model with one weight."""

import errno
import json
import os
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins import TorchCheckpointIO
from torch.distributed.checkpoint.api import CheckpointException

import mlp
from mlp.adapters import trainer as door
from mlp.adapters.base import event_file
from mlp.adapters.trainer import Placement, resuming
from mlp.core.errors import ConfigurationError, MlpError, RemoteError
from mlp.core.launch.launch import Launch, Strategy

QUIET: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False}


class Model(pl.LightningModule):
    """Learns one weight; counts the epochs that it was trained for in this life."""

    def __init__(self) -> None:
        super().__init__()
        self.save_hyperparameters({"lr": 0.1, "sizes": {"hidden": 4}})
        self.layer = torch.nn.Linear(1, 1)
        self.epochs: list[int] = []

    def training_step(self, batch: torch.Tensor, _: int) -> torch.Tensor:
        loss = self.layer(batch).square().mean()
        self.log("loss", loss)
        return loss

    def on_train_epoch_start(self) -> None:
        self.epochs.append(self.current_epoch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.1)


def placed(tmp_path: Path, strategy: Strategy = "single", processes: int = 1) -> Placement:
    launch = Launch(strategy=strategy, processes_per_node=processes)
    return Placement(launch, tmp_path / "checkpoints", "run", "train")


def fit(
    placement: Placement, epochs: int, log: door.Log | None = None, **kwargs: Any
) -> tuple[Model, pl.Trainer]:
    model = Model()
    made = door.trainer(placement, log, None, max_epochs=epochs, **QUIET, **kwargs)
    made.fit(model, torch.utils.data.DataLoader(torch.ones(8, 1), batch_size=4))
    return model, made


@pytest.fixture(autouse=True)
def first_fit() -> None:
    """Each training of a test is the first `fit` of a process, as after a restart."""
    resuming.fits.clear()


def test_every_step_is_logged_with_its_number(tmp_path: Path) -> None:
    seen: list[tuple[Mapping[str, float], int | None]] = []
    fit(placed(tmp_path), 3, lambda values, step: seen.append((values, step)))
    assert [step for values, step in seen if "loss" in values] == list(range(6))


def test_a_restarted_training_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    fit(placed(tmp_path), 2)
    resuming.fits.clear()
    model, trainer = fit(placed(tmp_path), 5)
    assert model.epochs == [2, 3, 4]
    assert trainer.global_step == 10


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path) -> None:
    fit(placed(tmp_path), 2, callbacks=[ModelCheckpoint(save_top_k=-1)])
    checkpoints = sorted(tmp_path.rglob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    newest = checkpoints[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    resuming.fits.clear()
    with pytest.warns(UserWarning, match="damaged"):
        model, _ = fit(placed(tmp_path), 3, callbacks=[ModelCheckpoint(save_top_k=-1)])
    assert model.epochs == [1, 2]


def test_a_second_fit_does_not_take_the_checkpoint_of_the_first(tmp_path: Path) -> None:
    fit(placed(tmp_path), 2)
    model, _ = fit(placed(tmp_path), 2)
    assert model.epochs == [0, 1]


def test_outside_of_a_run_it_leaves_no_checkpoints_in_a_place_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    placement = Placement(Launch())
    _, trainer = fit(placement, 1, logger=False, enable_checkpointing=False)
    assert type(trainer).__mro__[1] is pl.Trainer
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kwargs", "key"),
    [({"devices": 3}, "processes_per_node"), ({"num_nodes": 2}, "nodes")],
)
def test_a_keyword_that_contradicts_the_launch_is_refused_with_the_key_to_set(
    tmp_path: Path, kwargs: dict[str, Any], key: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        door.trainer(placed(tmp_path), None, None, **QUIET, **kwargs)
    assert f"launch.train.{key}" in refused.value.fix


def test_a_place_that_nothing_installed_can_reach_is_refused_with_what_to_install() -> None:
    placement = Placement(Launch(), "unheard-of://bucket/run", "run", "train")
    with pytest.raises(ConfigurationError) as refused:
        door.trainer(placement, None, None, **QUIET)
    assert "unheard-of://bucket/run" in refused.value.message
    assert "pip install" in refused.value.fix


class Refusing(TorchCheckpointIO):  # type: ignore[misc]
    """A plugin of the user's that several ranks write with, for one of which there is no room."""

    def save_checkpoint(self, *_: Any, **__: Any) -> None:
        trouble = OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        raise CheckpointException("write", {1: (trouble, traceback.StackSummary())})


def test_a_full_volume_of_a_pod_is_told_by_the_name_of_its_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "MLP_VOLUMES", json.dumps({"/checkpoints": "other", str(tmp_path): "scratch"})
    )
    known: list[MlpError] = []
    made = door.trainer(
        placed(tmp_path),
        None,
        None,
        on_error=known.append,
        max_epochs=1,
        plugins=Refusing(),
        **QUIET,
    )
    with pytest.raises(
        RemoteError, match=r"no room for checkpoint .* on volume claim scratch"
    ) as e:
        made.fit(Model(), torch.utils.data.DataLoader(torch.ones(8, 1), batch_size=4))
    assert f"mounted at {tmp_path}: the disk quota is used up" in e.value.message
    assert "targets.NAME.volumes" in e.value.fix
    assert known == [e.value]


def test_the_users_own_logger_stays_beside_ours(tmp_path: Path) -> None:
    from pytorch_lightning.loggers import CSVLogger

    seen: list[Mapping[str, float]] = []
    own = CSVLogger(str(tmp_path / "csv"))
    _, trainer = fit(
        placed(tmp_path), 1, lambda v, _: seen.append(v), logger=own, log_every_n_steps=1
    )
    assert own in trainer.loggers
    assert any("loss" in values for values in seen)
    assert "loss" in (Path(own.log_dir) / "metrics.csv").read_text()


def test_what_is_no_number_does_not_end_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not recorded, which is told once; values without a step count on."""
    variables = {"RUN_ID": "r", "RUN_DIR": str(tmp_path), "STAGE": "train", "STAGE_RUN_ID": "s"}
    for name, value in variables.items():
        monkeypatch.setenv(f"MLP_{name}", value)
    made = mlp.trainer(max_epochs=1, **QUIET)
    for loss in (torch.tensor(1.5), 0.5):
        given = {"loss": loss, "words": "many", "rows": torch.ones(2), "epoch": torch.ones(2)}
        made.logger.log_metrics(given)
    events = [event for file in event_file.files(str(tmp_path / "events")) for event in read(file)]
    assert [(e.data["step"], e.data["values"]) for e in events] == [
        (0, {"loss": 1.5}),
        (1, {"loss": 0.5}),
    ]
    told = [record.message for record in caplog.records if record.name == "mlp"]
    assert [message.split(" is ")[0] for message in told] == [
        f"metric {name}" for name in ("words", "rows", "epoch")
    ]


def read(file: str) -> list[Any]:
    return [event for event, _ in event_file.read(file)]


def test_hyperparameters_arrive_flat(tmp_path: Path) -> None:
    seen: list[Mapping[str, object]] = []
    model = Model()
    made = door.trainer(placed(tmp_path), lambda *_: None, seen.append, max_epochs=1, **QUIET)
    made.fit(model, torch.utils.data.DataLoader(torch.ones(8, 1), batch_size=4))
    assert {"lr": 0.1, "sizes.hidden": 4}.items() <= seen[0].items()
