"""The target `local` keeps the contract of targets."""

import pytest

from tests.conftest import Make
from tests.contract.target import TargetContract


class TestLocalTarget(TargetContract):
    """On this machine."""

    @pytest.fixture
    def launched(self, make_project: Make) -> Make:
        return make_project
