"""What the heads' tests share."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from torch import Tensor

from slamfeat.errors import WeightsError
from slamfeat.peer_weights import load


@pytest.fixture(scope="session")
def published() -> Callable[[str], Mapping[str, Tensor]]:
    """Published weights by name; the test is skipped where they are not stored."""

    def get(name: str) -> Mapping[str, Tensor]:
        try:
            return load(name)
        except WeightsError as error:
            pytest.skip(f"the peers' weights are not stored: {error}")

    return get
