"""How a process ends that is asked to stop again and again, by whichever of its threads takes the signals."""

import os
import select
import subprocess
import sys
from typing import Final

from gunicorn_asgi.process_exit import STOP_SIGNALS

LEAVING: Final = """\
import atexit, signal, sys, threading, time
from gunicorn_asgi.process_exit import STOP_SIGNALS, disregard_stop_signals, ignore_stop_signals_at_exit

taken = 0


def take(number, frame):
    global taken
    taken += 1


def wait_after(line):
    print(line, flush=True)
    sys.stdin.readline()


for number in STOP_SIGNALS:
    signal.signal(number, take)
atexit.register(wait_after, "last moments")
ignore_stop_signals_at_exit()
end = threading.Event()
threading.Thread(target=end.wait).start()
signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # The other thread takes them all.
print("works", flush=True)
while taken < 100:
    time.sleep(0.001)
disregard_stop_signals()
time.sleep(0.05)
wait_after("leaves")
end.set()
sys.exit(7)
"""


def test_signals_that_another_thread_takes_change_nothing_about_the_end() -> None:
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", LEAVING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == b"works\n"
            while not select.select([process.stdout], [], [], 0)[0]:
                for number in STOP_SIGNALS:
                    os.kill(process.pid, number)
            assert process.stdout.readline() == b"leaves\n"
            process.stdin.write(b"\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"last moments\n"
            for number in STOP_SIGNALS:
                os.kill(process.pid, number)
            _, errors = process.communicate(b"\n")
        assert (process.returncode, errors) == (7, b"")
