"""Train the network on the training months and choose its threshold on the validation month.

One process or several run this same script: mlp.trainer() knows where it is.
"""

from pathlib import Path

import mlp
import pandas as pd
import pytorch_lightning as pl
import torch
import yaml

import network
import served
from features import CATEGORIES, FEATURES, Encoding, read_month
from network import Flights, LateNetwork
from scores import best_threshold


def main() -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    settings = params["train"]
    pl.seed_everything(settings["seed"], workers=True)
    torch.set_num_threads(settings["threads"])

    encoding = Encoding.load(FEATURES / "encoding.json")
    train = Flights(pd.read_parquet(FEATURES / "train.parquet"), encoding)
    validation = Flights(pd.read_parquet(FEATURES / "validation.parquet"), encoding)
    model = LateNetwork(
        sizes=[len(encoding.categories[name]) + 1 for name in CATEGORIES],
        numbers=len(encoding.numbers),
        **{name: settings[name] for name in ("hidden", "dropout", "lr", "weight_decay")},
    )

    trainer = mlp.trainer(max_epochs=settings["epochs"], deterministic=True, accelerator="cpu")
    batch_size = settings["batch_size"] // trainer.world_size
    trainer.fit(model, train.loader(batch_size, shuffle=True), validation.loader(8192))

    if trainer.is_global_zero:
        threshold = best_threshold(validation.late.numpy(), model.probabilities(validation))
        network.save(model, threshold, network.MODEL)
        mlp.log_model(
            served.LateFlights(model, encoding, threshold),
            example=read_month(params["features"]["validation_month"])[served.INPUTS].head(5),
            code_paths=served.CODE,
            pip_requirements=served.REQUIREMENTS,
        )


if __name__ == "__main__":
    main()
