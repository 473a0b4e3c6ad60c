"""Stage `prepare`: split the rows into train, valid and test, with equal shares of digits."""

from pathlib import Path

import pandas as pd
import yaml
from sklearn.model_selection import train_test_split

RAW = Path("data/raw/digits.csv")
PREPARED = Path("data/prepared")


def split(
    frame: pd.DataFrame, valid_share: float, test_share: float, seed: int
) -> dict[str, pd.DataFrame]:
    """Three disjoint parts of `frame`; the shares are of all rows."""
    rest, test = train_test_split(
        frame, test_size=test_share, stratify=frame["target"], random_state=seed
    )
    train, valid = train_test_split(
        rest,
        test_size=valid_share / (1 - test_share),
        stratify=rest["target"],
        random_state=seed,
    )
    return {"train": train, "valid": valid, "test": test}


def main() -> None:
    """Write one CSV file for each part."""
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    parts = split(pd.read_csv(RAW), **params["prepare"], seed=params["seed"])
    PREPARED.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        part.to_csv(PREPARED / f"{name}.csv", index=False)
        print(f"{name}: {len(part)} rows")


if __name__ == "__main__":
    main()
