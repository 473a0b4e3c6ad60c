import subprocess
import sys
import zipfile
from pathlib import Path

from mlp.core import assets

SOURCE = Path(__file__).parents[2]


def _files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_templates_and_chart_are_found_in_the_source_tree() -> None:
    assert assets.templates() == SOURCE / "templates"
    assert assets.chart() == SOURCE / "helm" / "mlp"


def test_templates_and_chart_are_found_in_an_installed_wheel_with_every_file(
    tmp_path: Path,
) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=SOURCE, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    code = f"import sys; sys.path.insert(0, {str(site)!r})\n"
    code += "from mlp.core import assets; print(assets.templates(), assets.chart(), sep='\\n')"
    shown = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path
    )
    templates, chart = map(Path, shown.stdout.splitlines())
    assert templates.is_relative_to(site) and chart.is_relative_to(site)
    assert _files(templates) == _files(SOURCE / "templates")
    assert _files(chart) == _files(SOURCE / "helm" / "mlp")
