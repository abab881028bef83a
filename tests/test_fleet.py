"""What workers know of each other, as far as one process can show it."""

import pytest

from gunicorn_asgi import fleet
from gunicorn_asgi.fleet import Fleet


def test_a_worker_sees_who_has_the_fewest_connections() -> None:
    shared = Fleet()
    one, two, three = (shared.join(age) for age in (1, 2, 3))
    one.report(7)
    assert one.fewest_of_others() is None, "nobody else has reported"
    two.report(5)
    three.report(9)
    one.report(7)
    assert one.fewest_of_others() == 5
    two.count(8)
    assert one.fewest_of_others() == 8
    two.leave()
    one.report(7)
    assert one.fewest_of_others() == 9


def test_a_worker_that_does_not_report_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = Fleet()
    one, two = shared.join(1), shared.join(1 + fleet.PLACES - 1)
    two.report(0)
    one.report(100)
    assert one.fewest_of_others() == 0
    monkeypatch.setattr(fleet, "STALE_SECONDS", 0.0)
    one.report(100)
    assert one.fewest_of_others() is None


def test_a_turn_comes_when_the_last_one_has_its_replacement(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = Fleet()
    one, two, replacement = (shared.join(age) for age in (1, 2, 3))
    assert one.take_turn()
    assert not two.take_turn()
    two.on_serving(replaces_another=False)
    assert not two.take_turn()
    replacement.on_serving(replaces_another=True)
    assert two.take_turn()
    assert not one.take_turn()
    # A replacement that does not come is not waited for without end.
    monkeypatch.setattr(fleet, "REPLACEMENT_SECONDS", 0.0)
    assert one.take_turn()


def test_pauses_double_until_a_worker_serves() -> None:
    shared = Fleet()
    pauses = [shared.join(age).boot_pause() for age in range(1, 6)]
    assert pauses == pytest.approx([1.0, 2.0, 4.0, 8.0, 9.0], abs=0.5)
    shared.join(6).on_serving(replaces_another=True)
    again = Fleet()
    assert again.join(1).boot_pause() == pytest.approx(1.0, abs=0.01)


def test_several_that_fail_at_once_end_one_second_apart() -> None:
    shared = Fleet()
    first = shared.join(1).boot_pause()
    shared.join(2).on_serving(replaces_another=True)
    second = shared.join(3).boot_pause()
    assert second - first == pytest.approx(1.0, abs=0.5)
