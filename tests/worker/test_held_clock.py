"""A clock that leaves out the time for which what it times is held."""

from __future__ import annotations

from sf_tui.worker.held_clock import HeldClock


def test_held_time_is_left_out_however_often_it_is_asked_for() -> None:
    now_s = [5.0]
    clock = HeldClock(lambda: now_s[0])
    began_s = clock()
    now_s[0] += 2
    clock.hold()
    now_s[0] += 60
    clock.hold()
    assert clock() - began_s == 2
    now_s[0] += 60
    clock.go_on()
    now_s[0] += 3
    clock.go_on()
    assert clock() - began_s == 5
    clock.hold()
    now_s[0] += 60
    clock.go_on()
    assert clock() - began_s == 5
