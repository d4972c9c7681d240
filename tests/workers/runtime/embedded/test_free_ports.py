import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from headrace_workers.runtime.embedded import free_ports


def test_no_port_is_given_twice():
    found = [*free_ports.free_ports(30), *free_ports.free_ports(30)]
    assert len(set(found)) == 60


def test_a_port_in_use_is_passed_over():
    """Somebody else's server keeps its port."""
    with socket.socket() as taken:
        (port,) = free_ports.free_ports(1)
        with suppress(OSError):  # somebody else has it, which is as good
            taken.bind((free_ports.LOOPBACK, port + 1))
        assert port + 1 not in free_ports.free_ports(20)


def test_the_system_gives_none_of_them_to_a_client():
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(port < first for port in free_ports.free_ports(50))


def test_processes_that_start_together_find_different_ports():
    code = "from headrace_workers.runtime.embedded.free_ports import free_ports; print(*free_ports(3))"
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    ports = [port for process in started for port in process.communicate()[0].split()]
    assert len(set(ports)) == 12


def test_two_that_want_the_same_port_do_not_both_get_it():
    (port,) = free_ports.free_ports(1)
    with free_ports.held(port) as first, free_ports.held(port) as second:
        assert first == port
        assert second != port
    with free_ports.held(port) as third:
        assert third == port


def test_a_port_at_which_somebody_listens_is_not_given():
    (port,) = free_ports.free_ports(1)
    with socket.create_server((free_ports.LOOPBACK, port)), free_ports.held(port) as number:
        assert number != port
