"""A platform whose endpoints answer without HTTP: a copy of the built one, of which nobody has asked anything yet."""

from collections.abc import Iterator

import pytest
from answering_support import forget_decisions, platform_with_endpoints

from mlway_assets.resources import Platform


@pytest.fixture(scope="module")
def with_endpoints(built_platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """A copy for a file's tests; its answers are in its decision log."""
    return platform_with_endpoints(built_platform, tmp_path_factory.mktemp("endpoints"))


@pytest.fixture(name="platform")
def _platform(with_endpoints: Platform) -> Iterator[Platform]:
    """The copy; after a test its log is empty again."""
    yield with_endpoints
    forget_decisions(with_endpoints)
