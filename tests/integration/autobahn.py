"""The Autobahn test suite for WebSocket servers, run by `make autobahn`: 517 cases, or a selection with QUICK=1.

It needs CPython 2.7, and so it is no part of the suite proper; its name keeps it from being collected.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.gunicorn import GunicornStarter

PYTHON_2: Final = os.environ["AUTOBAHN_PYTHON"]
QUICK: Final = os.environ.get("QUICK") == "1"

WHOLE_CASES: Final = ["*"]
# All about frames, UTF-8 and closing; of the large and the compressed messages one of each kind.
QUICK_CASES: Final = [
    *(f"{number}.*" for number in (1, 2, 3, 4, 5, 6, 7, 10)),
    "9.1.1", "9.2.1", "9.3.1", "9.5.1", "9.7.1",
    "12.1.1", "12.1.11", "12.2.1", "12.3.1", "13.1.1", "13.2.1", "13.3.1", "13.4.1", "13.5.1", "13.6.1", "13.7.1",
]  # fmt: skip
SECONDS: Final = 240 if QUICK else 3600


@pytest.mark.parametrize(
    "worker", ["gunicorn_asgi.Worker"] if QUICK else ["gunicorn_asgi.Worker", "gunicorn_asgi.H11Worker"]
)
def test_autobahn(gunicorns: GunicornStarter, tmp_path: Path, worker: str) -> None:
    server = gunicorns.start("websocket_probe", worker=worker)
    specification = tmp_path / "fuzzingclient.json"
    specification.write_text(
        json.dumps(
            {
                "outdir": str(tmp_path / "reports"),
                "servers": [{"agent": "server", "url": server.url.replace("http", "ws", 1) + "/echo"}],
                "cases": QUICK_CASES if QUICK else WHOLE_CASES,
                "exclude-cases": [],
                "exclude-agent-cases": {},
            }
        )
    )
    command = [PYTHON_2, "-m", "autobahntestsuite.wstest", "-m", "fuzzingclient", "-s", str(specification)]
    log = tmp_path / "log"
    with log.open("wb") as output:
        subprocess.run(command, cwd=tmp_path, stdout=output, stderr=output, timeout=SECONDS, check=True)
    cases: dict[str, Any] = json.loads((tmp_path / "reports" / "index.json").read_text("utf-8"))["server"]
    assert len(cases) >= (250 if QUICK else 500), log.read_text("utf-8", "replace")
    bad = {
        name: (case["behavior"], case["behaviorClose"])
        for name, case in cases.items()
        if case["behavior"] not in ("OK", "NON-STRICT", "INFORMATIONAL")
        or case["behaviorClose"] not in ("OK", "INFORMATIONAL")
    }
    assert bad == {}, f"of {len(cases)} cases"
    assert "Traceback" not in server.log
