"""What the tests of the layers share: every backend of attention."""

import pytest

from glassformer.nn.attend import BACKENDS
from glassformer.twins import Backend


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend in turn."""
    return BACKENDS[request.param]
