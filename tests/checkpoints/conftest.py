"""The first load of a process imports and compiles much; what a hostile file costs is measured after it."""

import pytest

from checkpoints.hostile import publish
from glassformer import checkpoints


@pytest.fixture(autouse=True, scope="session")
def _warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    checkpoints.load(publish(tmp_path_factory.mktemp("warm")))
