"""Stage `fetch`: write the raw data.

569 biopsies of breast masses, 30 measurements of the cell nuclei in each, and whether the mass was
benign (1) or malignant (0). The data comes with scikit-learn; put your own source here.
"""

from pathlib import Path

from sklearn.datasets import load_breast_cancer

RAW = Path("data/raw/breast_cancer.csv")


def main() -> None:
    """Write the table as CSV."""
    frame = load_breast_cancer(as_frame=True).frame
    RAW.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(RAW, index=False)
    print(f"{len(frame)} rows, {frame.shape[1] - 1} features")


if __name__ == "__main__":
    main()
