"""Stage `train`: fit the network with Lightning, on as many processes as mlp.yaml says."""

import sys
from pathlib import Path
from typing import Any

import mlp
import pandas as pd
import pytorch_lightning as pl
import torch
import yaml
from model import Digits, tensors
from torch.utils.data import DataLoader

PREPARED = Path("data/prepared")
MODEL = Path("models/model.pt")
HISTORY = Path("metrics/history.csv")


class History(pl.Callback):
    """The validation metrics of every epoch; part of the checkpoints, so that a restart has all."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the row of the epoch that ends."""
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        valid = {name: value for name, value in values.items() if name.startswith("valid")}
        self.rows.append({"epoch": trainer.current_epoch, **valid})

    def state_dict(self) -> dict[str, Any]:
        """What goes into a checkpoint."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.rows = state_dict["rows"]


def fit(
    train: pd.DataFrame,
    valid: pd.DataFrame,
    *,
    lr: float,
    epochs: int,
    batch_size: int,
    hidden: int,
    seed: int,
) -> tuple[Digits, pl.Trainer, History]:
    """The fitted model with its trainer and history. The same seed gives the same model."""
    pl.seed_everything(seed, workers=True, verbose=False)
    model, history = Digits(lr, hidden), History()
    trainer = mlp.trainer(
        max_epochs=epochs,
        deterministic=True,
        callbacks=[history],
        enable_progress_bar=sys.stdout.isatty(),
        enable_model_summary=False,
    )
    trainer.fit(
        model,
        DataLoader(tensors(train), batch_size=batch_size, shuffle=True),
        DataLoader(tensors(valid), batch_size=batch_size),
    )
    return model, trainer, history


def main() -> None:
    """Write the model and the history, and log the model; of several processes the first does."""
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    train, valid = (pd.read_csv(PREPARED / f"{name}.csv") for name in ("train", "valid"))
    model, trainer, history = fit(train, valid, **params["train"], seed=params["seed"])
    if not trainer.is_global_zero:
        return
    MODEL.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = {"settings": dict(model.hparams), "weights": model.cpu().state_dict()}
    torch.save(checkpoint, MODEL)
    HISTORY.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(history.rows).to_csv(HISTORY, index=False)
    example = tensors(train.head(5)).tensors[0].numpy()
    mlp.log_model(model, example, code_paths=["src/model.py"])
    last = history.rows[-1]
    print(f"valid_accuracy {last['valid_accuracy']:.4f} after {last['epoch'] + 1} epochs")


if __name__ == "__main__":
    main()
