"""The packages that remotes of each kind need beside DVC."""

import importlib.util

from mlp.core.errors import ConfigurationError
from mlp.core.secrets import mask_urls

_PART_OF_DVC = ("", "dvc", "dvc_http", "dvc_objects")


def package_for(url: str) -> str | None:
    """What has to be installed beside DVC for a remote at `url`, as in dvc-s3; None for nothing."""
    from dvc_objects.fs import known_implementations

    module = known_implementations.get(url.partition("://")[0], {}).get("class", "").split(".")[0]
    return None if module in _PART_OF_DVC else module.replace("_", "-")


def is_installed(package: str) -> bool:
    """Whether a package that `package_for` names is there."""
    return importlib.util.find_spec(package.replace("-", "_")) is not None


def missing_package(url: str, error: ImportError) -> ConfigurationError:
    """The error for a remote whose library is not installed."""
    return ConfigurationError(
        f"the DVC remote {mask_urls(url)} needs a package that is not installed",
        fix=f"pip install {package_for(url) or 'dvc'}",
        cause=str(error),
    )
