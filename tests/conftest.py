"""What every test directory shares: a real `gunicorn` to talk to."""

from collections.abc import Iterator

import hypothesis
import pytest
from xprocess import XProcess

from tests.support.gunicorn import Gunicorn, GunicornStarter

# An example that takes 200 ms says that the machine is busy, not that the code is wrong.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")


@pytest.fixture
def gunicorns(xprocess: XProcess) -> Iterator[GunicornStarter]:
    """Starts `gunicorn`s for one test."""
    starter = GunicornStarter(xprocess)
    yield starter
    starter.end_all()


@pytest.fixture(scope="module")
def probe(xprocess: XProcess) -> Iterator[Gunicorn]:
    """One worker with the probe application, shared by the tests of a module that leave it as they find it."""
    starter = GunicornStarter(xprocess)
    yield starter.start("probe", "--keep-alive", "30")
    starter.end_all()
