"""Addresses: which ones the hub may connect to on a partner's behalf, and whose address a request came from.

Business of this file: the table of what is no address of the public internet, transition forms, in which an IPv6
address carries one of IPv4, and what proxies are believed. Names are looked up, and connections opened, elsewhere.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def may_connect(address: Address, allowed: Sequence[Network] = ()) -> bool:
    """Whether this is a public address, or one of the `allowed` networks holds it. A metadata service's address
    must be allowed by itself: whoever allows a private network does not mean it."""
    if isinstance(address, ipaddress.IPv6Address) and (mapped := address.ipv4_mapped) is not None:
        # The system connects over IPv4.
        return may_connect(mapped, allowed)
    if any(address in network for network in allowed if network.num_addresses == 1):
        return True
    if any(address in network for network in _METADATA):
        return False
    return any(address in network for network in allowed) or _is_public(address)


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC)
    value = int(address)
    if address in _NAT64:
        return may_connect(ipaddress.IPv4Address(value & 0xFFFF_FFFF))
    if address not in _UNICAST or any(address in network for network in _NOT_PUBLIC):
        return False
    # ISATAP (RFC 5214): a router at the site of such an address sends on to the IPv4 address in its end.
    return value >> 32 & 0xFDFF_FFFF != 0x5EFE


def caller(peer: str, forwarded: str, trusted: Sequence[Network]) -> str:
    """Who a request came from, as far as `trusted` proxies tell it: `peer` is who connected, `forwarded` what was
    said in X-Forwarded-For. Of IPv6 the network of 64 bits, which is one household's or one machine's."""
    last = _read(peer)
    told = forwarded.split(",")[-_MOST_PROXIES:]
    while last is not None and told and any(last in network for network in trusted):
        # What does not read, and all before it, was said by nobody who is believed.
        said = _read(told.pop())
        if said is None:
            break
        last = said
    if last is None:
        return ""
    return str(last) if last.version == 4 else str(ipaddress.ip_network((last, 64), strict=False))


def _read(text: str) -> Address | None:
    """Some proxies add the port."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


_MOST_PROXIES = 10


def read_networks(text: str) -> tuple[Network, ...]:
    """Of a list separated by commas. Raises ValueError, whose text repeats nothing of it."""
    found = []
    for number, part in enumerate((part.strip() for part in text.split(",") if part.strip()), 1):
        try:
            found.append(ipaddress.ip_network(part))
        except ValueError:
            raise ValueError(
                f"number {number} is no network: an address, a slash, how many bits are fixed, the others zero"
            ) from None
    return tuple(found)


_UNICAST = ipaddress.ip_network("2000::/3")
"""What of IPv6 is given out (IANA, IPv6 global unicast address assignments); all else is refused, with
v4-compatible, link-local, site-local and unique local addresses, multicast, and NAT64 of one's own (64:ff9b:1::)."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""Where a network of IPv6 alone reaches public servers of IPv4 (RFC 6052)."""

_NOT_PUBLIC: tuple[Network, ...] = tuple(
    map(
        ipaddress.ip_network,
        (
            # IANA, IPv4 special-purpose address registry.
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",
            "240.0.0.0/4",
            # IANA, IPv6 special-purpose address registry, within _UNICAST. The first holds Teredo, benchmarking and
            # ORCHID; the third is 6to4.
            "2001::/23",
            "2001:db8::/32",
            "2002::/16",
            "3fff::/20",
        ),
    )
)

_METADATA: tuple[Network, ...] = tuple(
    map(
        ipaddress.ip_network,
        (
            # What clouds tell their machines, keys among it. The second answers in Azure only, and looks public.
            "169.254.169.254/32",
            "168.63.129.16/32",
            "169.254.170.2/32",
            "169.254.170.23/32",
            "100.100.100.200/32",
            "192.0.0.192/32",
            "fd00:ec2::254/128",
            "fd00:ec2::23/128",
            "fd20:ce::254/128",
        ),
    )
)
