"""What every test directory shares: a real `gunicorn` to talk to."""

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from xprocess import XProcess

from tests.support.certificates import Certificates
from tests.support.gunicorn import Gunicorn, GunicornStarter
from tests.support.http2_wire import Http2Connection

# An example that takes 200 ms says that the machine is busy, not that the code is wrong.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")

BLOCKER = """\
import os
import sys


class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in os.environ["BLOCKED_IMPORTS"].split(","):
            raise ImportError(f"No module named {name!r}", name=name)
        return None


sys.meta_path.insert(0, Blocker())
"""


@pytest.fixture
def gunicorns(xprocess: XProcess) -> Iterator[GunicornStarter]:
    """Starts `gunicorn`s for one test."""
    starter = GunicornStarter(xprocess)
    yield starter
    starter.end_all()


@pytest.fixture(scope="module", params=["Worker", "H11Worker"])
def worker_class(request: pytest.FixtureRequest) -> str:
    """Each class that serves HTTP/1, as `gunicorn -k` names it: what is asked of one is asked of both."""
    return f"gunicorn_asgi.{request.param}"


@pytest.fixture(scope="module")
def probe(xprocess: XProcess, worker_class: str) -> Iterator[Gunicorn]:
    """One worker with the probe application, shared by the tests of a module that leave it as they find it."""
    starter = GunicornStarter(xprocess)
    yield starter.start("probe", "--keep-alive", "30", worker=worker_class)
    starter.end_all()


@pytest.fixture(scope="session")
def h2c(xprocess: XProcess) -> Iterator[Gunicorn]:
    """One worker that speaks HTTP/2 without TLS, shared by all tests that leave it as they find it."""
    starter = GunicornStarter(xprocess)
    yield starter.start("probe", "--keep-alive", "600", worker="gunicorn_asgi.H2CWorker")
    starter.end_all()


@pytest.fixture(scope="session")
def bystander(h2c: Gunicorn) -> Iterator[Http2Connection]:
    """A connection to it that nothing may harm which happens on others."""
    with Http2Connection(h2c.address) as connection:
        yield connection


@pytest.fixture
def without(tmp_path: Path) -> dict[str, str]:
    """The environment of a process in which the modules named by BLOCKED_IMPORTS are not installed."""
    (tmp_path / "sitecustomize.py").write_text(BLOCKER)
    return {"PYTHONPATH": str(tmp_path)}


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """For servers with TLS, and their clients."""
    return Certificates(tmp_path_factory.mktemp("certificates"))
