"""Addresses that the hub may connect to: the public internet, and what the operator allows beside it."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from hub.domain.addresses import caller, may_connect, read_networks

PUBLIC = (
    "8.8.8.8",
    "1.1.1.1",
    "100.63.255.255",
    "100.128.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "223.255.255.255",
    "2001:4860:4860::8888",
    "2a01:e0a::1",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
)
NOT_PUBLIC = (
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.1.1",
    "169.254.169.254",
    "168.63.129.16",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:0:8.8.8.8",
    "64:ff9b::10.0.0.1",
    "64:ff9b::169.254.169.254",
    "64:ff9b::168.63.129.16",
    "64:ff9b:1::8.8.8.8",
    "100::1",
    "2001::1",
    "2001:2::1",
    "2001:db8::1",
    "2002:808:808::1",
    "2002:7f00:1::",
    "3fff::1",
    "5f00::1",
    "2a01:e0a::5efe:10.0.0.1",
    "2a01:e0a::200:5efe:10.0.0.1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "4000::1",
)


@pytest.mark.parametrize("text", PUBLIC)
def test_an_address_of_the_public_internet_may_be_connected_to(text: str) -> None:
    assert may_connect(ip_address(text))


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_every_other_address_may_not_unless_it_is_allowed_by_itself(text: str) -> None:
    address = ip_address(text)
    assert not may_connect(address)
    assert not may_connect(address, [ip_network("9.9.9.0/24"), ip_network("2a00::/16")])
    # A mapped address is one of IPv4.
    meant = getattr(address, "ipv4_mapped", None) or address
    assert may_connect(address, [ip_network(meant)])


@pytest.mark.parametrize(
    ("allowed", "inside", "outside"),
    [
        ("10.0.0.0/8", "10.255.0.1", "172.16.0.1"),
        ("10.0.0.0/8", "::ffff:10.255.0.1", "64:ff9b::10.0.0.1"),
        ("fd00::/8", "fd12::1", "fc00::1"),
        ("127.0.0.0/8", "127.1.2.3", "::1"),
    ],
)
def test_an_allowed_network_is_itself_and_no_other(allowed: str, inside: str, outside: str) -> None:
    networks = read_networks(allowed)
    assert may_connect(ip_address(inside), networks)
    assert not may_connect(ip_address(outside), networks)


@pytest.mark.parametrize(
    ("allowed", "metadata"),
    [
        ("169.254.0.0/16", "169.254.169.254"),
        ("fd00::/8", "fd00:ec2::254"),
        ("100.64.0.0/10", "100.100.100.200"),
        ("0.0.0.0/0", "168.63.129.16"),
    ],
)
def test_whoever_allows_a_network_does_not_mean_the_metadata_within(allowed: str, metadata: str) -> None:
    assert not may_connect(ip_address(metadata), read_networks(allowed))
    assert may_connect(ip_address(metadata), read_networks(f"{allowed}, {metadata}"))


def test_networks_are_read_from_a_list() -> None:
    assert read_networks(" 10.0.0.0/8 ,, fd00::/8,127.0.0.1 ") == (
        ip_network("10.0.0.0/8"),
        ip_network("fd00::/8"),
        ip_network("127.0.0.1/32"),
    )
    assert read_networks("") == ()


@pytest.mark.parametrize("text", ["10.0.0.0/33", "10.0.0.1/8", "intranet", "10.0.0.0/8;fd00::/8"])
def test_what_is_no_network_is_told_by_its_place(text: str) -> None:
    with pytest.raises(ValueError, match=r"^number 2 is no network") as told:
        read_networks(f"10.0.0.0/8,{text}")
    assert text not in str(told.value)


PROXIES = read_networks("10.0.0.0/8,2001:db8::/32")


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("192.0.2.9", "198.51.100.1", "192.0.2.9"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "203.0.113.5, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
        ("10.0.0.1", "[2a01:e0a:1:2:3:4:5:6]:443", "2a01:e0a:1:2::/64"),
        ("10.0.0.1", "nobody", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1, nobody", "10.0.0.1"),
        ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("", "198.51.100.1", ""),
    ],
)
def test_only_proxies_that_are_trusted_say_where_a_request_came_from(
    peer: str, forwarded: str, found: str
) -> None:
    assert caller(peer, forwarded, PROXIES) == found
