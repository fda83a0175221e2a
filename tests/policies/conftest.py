"""The demonstrations that policies are tested on."""

import pytest

from tests.walks import write_walks


@pytest.fixture(scope="session")
def demos(tmp_path_factory):
    return write_walks(tmp_path_factory.mktemp("demos") / "walk.h5")
