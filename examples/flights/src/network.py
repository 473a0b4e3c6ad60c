"""The model: embedded categories and scaled numbers through a small network, to one logit."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from features import CATEGORIES, Encoding

MODEL = Path("models/network.pt")


class Flights(torch.utils.data.Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Codes, numbers and labels of encoded flights, fetched a whole batch at a time."""

    def __init__(self, rows: pd.DataFrame, encoding: Encoding) -> None:
        self.codes = torch.tensor(rows[CATEGORIES].to_numpy("int64"))
        self.numbers = torch.tensor(rows[encoding.numbers].to_numpy("float32"))
        late = rows["late"] if "late" in rows else pd.Series(0.0, rows.index)
        self.late = torch.tensor(late.to_numpy("float32"))

    def __len__(self) -> int:
        return len(self.late)

    def __getitems__(self, index: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        return self.codes[index], self.numbers[index], self.late[index]

    def loader(self, batch_size: int, shuffle: bool = False) -> torch.utils.data.DataLoader[Any]:
        return torch.utils.data.DataLoader(self, batch_size, shuffle, collate_fn=as_it_is)


def as_it_is(batch: Any) -> Any:
    return batch


class LateNetwork(pl.LightningModule):
    """An ordinary LightningModule: nothing in it knows of mlp."""

    def __init__(
        self,
        sizes: list[int],
        numbers: int,
        hidden: list[int],
        dropout: float,
        lr: float,
        weight_decay: float,
    ) -> None:
        """`sizes`: how many codes each category has."""
        super().__init__()
        self.save_hyperparameters()
        self.embeddings = nn.ModuleList(nn.Embedding(n, min(16, n // 2 + 1)) for n in sizes)
        width = sum(e.embedding_dim for e in self.embeddings) + numbers
        layers: list[nn.Module] = []
        for size in hidden:
            layers += [nn.Linear(width, size), nn.ReLU(), nn.Dropout(dropout)]
            width = size
        self.layers = nn.Sequential(*layers, nn.Linear(width, 1))
        self.loss = nn.BCEWithLogitsLoss()

    def forward(self, codes: Tensor, numbers: Tensor) -> Tensor:
        embedded = [e(codes[:, i]) for i, e in enumerate(self.embeddings)]
        return self.layers(torch.cat([*embedded, numbers], dim=1)).squeeze(1)

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], _: int) -> Tensor:
        codes, numbers, late = batch
        loss = self.loss(self(codes, numbers), late)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor], _: int) -> None:
        codes, numbers, late = batch
        self.log("val_loss", self.loss(self(codes, numbers), late), sync_dist=True, prog_bar=True)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.hparams["lr"], weight_decay=self.hparams["weight_decay"]
        )
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.hparams["lr"], steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    @torch.no_grad()
    def probabilities(self, flights: Flights) -> np.ndarray:
        """The probability of being late, for each flight."""
        self.eval()
        logits = [self(codes, numbers) for codes, numbers, _ in flights.loader(8192)]
        return torch.sigmoid(torch.cat(logits)).double().numpy()


def save(model: LateNetwork, threshold: float, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    settings, weights = dict(model.hparams), model.state_dict()
    torch.save({"settings": settings, "weights": weights, "threshold": threshold}, path)


def load(path: Path) -> tuple[LateNetwork, float]:
    contents = torch.load(path, weights_only=True)
    model = LateNetwork(**contents["settings"])
    model.load_state_dict(contents["weights"])
    return model, contents["threshold"]
