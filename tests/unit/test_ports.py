"""Ports: held from the choice to the end, so that two stacks never share one."""

import pytest

from rollout_console.services.ports import PortTaken, any_free, is_free, public_port_hold


def test_two_that_choose_get_two_ports() -> None:
    first = any_free()
    with public_port_hold(None, first=first) as one, public_port_hold(None, first=first) as other:
        assert one.getsockname()[1] == first
        assert other.getsockname()[1] not in (0, first)
        assert not is_free(first)
    assert is_free(first)


def test_a_port_that_is_asked_for_is_given_once() -> None:
    port = any_free()
    with public_port_hold(port, first=1), pytest.raises(PortTaken, match=str(port)):
        public_port_hold(port, first=1)
