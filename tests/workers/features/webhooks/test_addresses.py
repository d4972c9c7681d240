"""Which addresses may be sent to."""

import ipaddress

import pytest

from headrace_workers.features.webhooks.targets import Reach, refusal

REFUSED = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.1.2.3",
    "168.63.129.16", "169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.192",
    "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.7",
    "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001::1", "2001:0:7f00:1::",
    "2001:10::1", "2001:db8::1", "2002:7f00:1::1", "2002:a9fe:a9fe::1", "3fff::1", "5f00::1", "fc00::1",
    "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1",
    "2606:4700::5efe:7f00:1", "2606:4700::200:5efe:10.0.0.1",
]  # fmt: skip
TAKEN = ["8.8.8.8", "93.184.216.34", "1.1.1.1", "2606:4700::1111", "2a00:1450:4001:82f::200e", "64:ff9b::808:808",
         "::ffff:8.8.8.8"]  # fmt: skip


@pytest.mark.parametrize("address", REFUSED)
def test_what_is_no_address_of_the_internet_is_refused(address):
    """By https and by http, in whichever spelling."""
    assert refusal(address, "https", Reach())
    assert refusal(address, "http", Reach())


@pytest.mark.parametrize("address", TAKEN)
def test_addresses_of_the_internet_are_taken(address):
    """By https alone."""
    assert refusal(address, "https", Reach()) is None
    assert refusal(address, "http", Reach(http_loopback=True))


def test_what_is_no_address_is_refused():
    """A name is not looked up here."""
    assert refusal("localhost", "https", Reach()) == "localhost is no address"


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203", "fd12::5"])
def test_a_deployments_own_networks_are_taken(address):
    """Its receivers may be private; nothing beside them is let in."""
    reach = Reach(networks=(ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd12::/16")))
    assert refusal(address, "https", reach) is None
    assert refusal("10.2.0.1", "https", reach)
    assert refusal("fd13::1", "https", reach)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_http_goes_to_this_machine_where_that_is_allowed(address):
    """And nowhere else, not even into the deployment's networks; https does not go there."""
    reach = Reach(networks=(ipaddress.ip_network("10.0.0.0/8"),), http_loopback=True)
    assert refusal(address, "http", reach) is None
    assert refusal(address, "https", reach)
    assert refusal("10.0.0.1", "http", reach)
