"""Stage `fetch`: write the raw data.

1797 handwritten digits of 8 x 8 pixels, each 0 (white) to 16 (black). The data comes with
scikit-learn; put your own source here.
"""

from pathlib import Path

from sklearn.datasets import load_digits

RAW = Path("data/raw/digits.csv")


def main() -> None:
    """Write the table as CSV: 64 pixels and the digit in each row."""
    frame = load_digits(as_frame=True).frame
    RAW.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(RAW, index=False)
    print(f"{len(frame)} digits")


if __name__ == "__main__":
    main()
