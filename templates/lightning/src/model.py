"""The model, and the data as it takes it."""

from collections.abc import Sequence

import pandas as pd
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

DARKEST = 16.0


def tensors(part: pd.DataFrame) -> TensorDataset:
    """Rows of 64 pixels and a digit, as images between 0 and 1 and labels."""
    pixels = part.drop(columns="target").to_numpy(dtype="float32") / DARKEST
    return TensorDataset(torch.from_numpy(pixels), torch.tensor(part["target"].to_numpy()))


class Digits(pl.LightningModule):
    """A network with one hidden layer: 64 pixels in, a score for each of 10 digits out."""

    def __init__(self, lr: float, hidden: int) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.lr = lr
        self.layers = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))

    def forward(self, pixels: Tensor) -> Tensor:
        """Scores (logits), one row for each image."""
        return self.layers(pixels)

    def training_step(self, batch: Sequence[Tensor], _: int) -> Tensor:
        """Log and return the loss of one batch."""
        pixels, digits = batch
        loss = nn.functional.cross_entropy(self(pixels), digits)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Sequence[Tensor], _: int) -> None:
        """Log loss and accuracy, averaged over all batches and processes."""
        pixels, digits = batch
        scores = self(pixels)
        correct = (scores.argmax(dim=1) == digits).float().mean()
        self.log("valid_loss", nn.functional.cross_entropy(scores, digits), sync_dist=True)
        self.log("valid_accuracy", correct, sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam with the learning rate of params.yaml."""
        return torch.optim.Adam(self.parameters(), lr=self.lr)
