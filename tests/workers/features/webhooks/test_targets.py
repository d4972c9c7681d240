import ipaddress

import pytest

from headrace_workers.features.webhooks.targets import Reach, Target, UrlRefused, read_url, refusal

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
    assert refusal(address, "https", Reach())
    assert refusal(address, "http", Reach())


@pytest.mark.parametrize("address", TAKEN)
def test_addresses_of_the_internet_are_taken(address):
    assert refusal(address, "https", Reach()) is None
    assert refusal(address, "http", Reach(http_loopback=True))


def test_what_is_no_address_is_refused():
    assert refusal("localhost", "https", Reach()) == "localhost is no address"


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203", "fd12::5"])
def test_a_deployments_own_networks_are_taken(address):
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


# What attackers try, and what parsers have been seen to disagree about. Each is refused before anybody is asked.
HOSTILE = [
    "http://shop.example/", "HTTP://shop.example/", "ftp://shop.example/", "file:///etc/passwd",
    "gopher://shop.example/", "dict://shop.example:443/", "ws://shop.example/",
    "javascript:alert(1)", "data:text/plain,hello", "unix:/run/x.sock",
    "//shop.example/", "shop.example/hooks", "https:/shop.example", "https:shop.example", "https:///hooks", "https://",
    "", " ", "https:// shop.example/", "https://shop.example/a b", "https://shop.example/\r\nHost: evil",
    "https://shop.example\r\n@evil.example/", "https://shop.example/\x00", "https://shop.example/\t",
    "https://shop.example\\@evil.example/", "https://shop.example\\.evil.example/",
    "https://user@shop.example/", "https://user:password@shop.example/", "https://:@shop.example/",
    "https://shop.example@127.0.0.1/", "https://127.0.0.1#@shop.example/", "https://shop.example/#here",
    "https://shop.example:80/", "https://shop.example:22/", "https://shop.example:6379/", "https://shop.example:0/",
    "https://shop.example:99999/", "https://shop.example:/", "https://shop.example:443:443/", "https://shop.example:-1/",
    "https://shop.example:4e2/",
    "https://127.0.0.1/", "https://127.0.0.1:8443/", "https://0.0.0.0/", "https://10.0.0.1/", "https://192.168.1.1/",
    "https://172.16.0.1/", "https://169.254.169.254/latest/meta-data/", "https://100.64.0.1/", "https://100.100.100.200/",
    "https://255.255.255.255/", "https://224.0.0.1/", "https://198.18.0.1/", "https://168.63.129.16/",
    # Other spellings of addresses: octal, hexadecimal, one number, too few and too many.
    "https://0177.0.0.1/", "https://0x7f.0.0.1/", "https://0x7f000001/", "https://2130706433/", "https://017700000001/",
    "https://127.1/", "https://127.0.1/", "https://0/", "https://1.1.1.1.1/", "https://127.0.0.01/", "https://127.0.0.256/",
    "https://00.0.0.0/", "https://127.0.0.1./", "https://127.0.0.0x1/", "https://0X7F.1/", "https://256/",
    # IPv6, and IPv4 in it.
    "https://[::1]/", "https://[::]/", "https://[::ffff:127.0.0.1]/", "https://[::ffff:7f00:1]/", "https://[0:0:0:0:0:0:0:1]/",
    "https://[::127.0.0.1]/", "https://[64:ff9b::127.0.0.1]/", "https://[64:ff9b::169.254.169.254]/", "https://[fe80::1]/",
    "https://[fe80::1%25eth0]/", "https://[fe80::1%eth0]/", "https://[fd00:ec2::254]/", "https://[fec0::1]/",
    "https://[2002:7f00:1::]/", "https://[2001:db8::1]/", "https://[ff02::1]/", "https://[::1", "https://::1/",
    "https://[v1.fe80]/", "https://[shop.example]/", "https://[::1]evil.example/", "https://[::g]/", "https://[1.2.3.4]/",
    # Names that look like others, or that readers normalise: full-width and circled digits, dots, percent signs.
    "https://１２７.０.０.１/", "https://①②⑦.⓪.⓪.①/", "https://127。0。0。1/", "https://ⓛocalhost/", "https://shop。example/",
    "https://shop．example/", "https://exämple.com/", "https://xn--/", "https://%31%32%37.0.0.1/", "https://127.0.0.1%2f/",
    "https://shop.example%00.evil.example/", "https://shop.example%2f@evil.example/", "https://shop..example/",
    "https://.shop.example/", "https://shop.example./", "https://-shop.example/", "https://shop-.example/",
    "https://shop_1.example/", "https://*.example/", "https://shop.example;evil.example/", "https://shop.example,evil/",
    f"https://{'a' * 64}.example/", f"https://{'a.' * 130}example/", f"https://shop.example/{'a' * 2_048}",
    "https://<script>/", "https://shop.example/{x}", "https://shop.example/|", "https://$(id).example/",
]  # fmt: skip


@pytest.mark.parametrize("url", HOSTILE)
def test_hostile_urls_are_refused(url):
    with pytest.raises(UrlRefused) as caught:
        read_url(url, Reach())
    assert "password" not in str(caught.value).replace("a name or password", "")


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://shop.example", Target("https", "shop.example", 443, "/")),
        ("HTTPS://Shop.Example/Hooks?A=b", Target("https", "shop.example", 443, "/Hooks?A=b")),
        ("https://shop.example?a=b", Target("https", "shop.example", 443, "/?a=b")),
        ("https://shop.example:8443/%20", Target("https", "shop.example", 8443, "/%20")),
        ("https://93.184.216.34/a", Target("https", "93.184.216.34", 443, "/a")),
        ("https://[2606:4700::1111]/a", Target("https", "2606:4700::1111", 443, "/a")),
        ("https://xn--exmple-cua.com/", Target("https", "xn--exmple-cua.com", 443, "/")),
    ],
)
def test_good_urls_are_read(url, target):
    assert read_url(url, Reach()) == target


def test_what_a_deployment_allows_is_read():
    reach = Reach(networks=(ipaddress.ip_network("10.0.0.0/8"),), ports=frozenset({9443}), http_loopback=True)
    assert read_url("https://10.1.2.3:9443/", reach).host == "10.1.2.3"
    assert read_url("http://127.0.0.1:5000/x", reach) == Target("http", "127.0.0.1", 5000, "/x")
    assert read_url("http://localhost/", reach).port == 80  # where that leads is checked when it is resolved
    for url in ("https://10.1.2.3/", "http://10.1.2.3:9443/", "http://8.8.8.8/"):
        with pytest.raises(UrlRefused):
            read_url(url, reach)


def test_what_goes_into_the_header_host():
    assert Target("https", "a.example", 443, "/").authority == "a.example"
    assert Target("https", "::1", 8443, "/").authority == "[::1]:8443"
    assert Target("http", "a.example", 8080, "/x").origin == "http://a.example:8080"
