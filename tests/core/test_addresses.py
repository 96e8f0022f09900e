"""Which URLs may be called with a tenant's key when somebody set them for it."""

import socket
from typing import Any

import pytest

from apps.core import addresses
from apps.core.addresses import AddressRefusedError

PUBLIC = [
    *("https://8.8.8.8/v1", "https://8.8.8.8:8443", "https://8.8.8.8/a@b"),
    *("https://[2606:4700::6810:84e5]/v1", "https://[2001:4860:4860::8888]", "https://[::ffff:8.8.8.8]"),
    # The neighbours of what is reserved.
    *("https://192.0.1.1", "https://192.88.98.1", "https://192.88.100.1", "https://168.63.129.17"),
    *("https://[2001:200::1]", "https://[2003::1]"),
]
PRIVATE = [
    *("https://localhost/v1", "https://127.0.0.1", "https://[::1]", "https://0.0.0.0", "https://[::]"),
    *("https://10.0.0.7/v1", "https://172.16.0.1", "https://192.168.1.1", "https://[fd00::1]"),
    # Link-local, and so the metadata of most clouds; a carrier's own network, and so that of some.
    *("https://169.254.169.254/latest", "https://[fe80::1]", "https://100.64.0.1", "https://100.100.100.200"),
    *("https://168.63.129.16", "https://[fd00:ec2::254]"),
    # The same address in other words.
    *("https://2130706433", "https://0x7f.1", "https://0177.0.0.1", "https://127.1"),
    # IPv4 inside IPv6: mapped, compatible, translated (NAT64 of everybody and of one's own, SIIT), 6to4, Teredo.
    *("https://[::ffff:10.0.0.7]", "https://[::127.0.0.1]", "https://[64:ff9b::a00:7]", "https://[64:ff9b:1::7f00:1]"),
    *("https://[::ffff:0:127.0.0.1]", "https://[2002:a00:7::]", "https://[2002:808:808::]"),
    *("https://[2001::f5ff:fff8]", "https://[2001:0:4136:e378:8000:63bf:f7f7:f7f7]"),
    # A site's own once, a router's segments, what is for protocols and for documentation.
    *("https://[fec0::1]", "https://[5f00::1]", "https://[100::1]", "https://[4000::1]"),
    *("https://192.0.0.192", "https://192.0.0.9", "https://192.88.99.1", "https://[2001:1::1]", "https://[2001:20::1]"),
    *("https://[2001:db8::1]", "https://[3fff::1]", "https://192.0.2.1", "https://198.18.0.1", "https://203.0.113.1"),
    *("https://224.0.0.1", "https://[ff02::1]", "https://240.0.0.1", "https://255.255.255.255"),
]
NO_URLS = [
    *("", "8.8.8.8", "//8.8.8.8", "ftp://8.8.8.8", "file:///etc/passwd", "https://", "https:///v1"),
    *("https://8.8.8.8:0", "https://8.8.8.8:99999", "https://8.8.8.8:x", "https://[::1", "https://8.8.8.8 /v1"),
    *("https://me:secret@8.8.8.8", "https://me@8.8.8.8", "https://@8.8.8.8", r"https://8.8.8.8\@10.0.0.7"),
    *("https://8.8.8.8/v1?a=b", "https://8.8.8.8/v1#a", "https://8.8.8.8/v1\n"),
]


def is_refused(url: str) -> bool:
    try:
        addresses.check(url)
    except AddressRefusedError:
        return True
    return False


@pytest.mark.parametrize("url", PUBLIC)
def test_a_public_address_may_be_called(url: str) -> None:
    assert not is_refused(url)


@pytest.mark.parametrize("url", PRIVATE)
def test_what_only_our_server_can_reach_may_not_be_called(url: str) -> None:
    with pytest.raises(AddressRefusedError, match="not a public address"):
        addresses.check(url)


def test_a_name_with_one_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (where, 443)) for where in ("8.8.8.8", "10.0.0.7")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(AddressRefusedError, match=r"10\.0\.0\.7"):
        addresses.check("https://llm.example.com")


def test_a_name_that_cannot_be_one_is_refused() -> None:
    with pytest.raises(AddressRefusedError, match="host"):
        addresses.check(f"https://{'a' * 64}.example.com")


def test_a_call_that_others_could_read_is_refused() -> None:
    with pytest.raises(AddressRefusedError, match="https"):
        addresses.check("http://8.8.8.8/v1")


@pytest.mark.parametrize("allowed", [False, True])
@pytest.mark.parametrize("url", NO_URLS)
def test_what_is_no_address_of_a_service_is_refused_whatever_is_allowed(url: str, allowed: bool, settings: Any) -> None:
    settings.ALLOW_PRIVATE_PROVIDER_URLS = allowed
    with pytest.raises(AddressRefusedError):
        addresses.check(url)


@pytest.mark.parametrize("url", ["http://10.0.0.7:8000/v1", "http://localhost:8000", "https://[::1]/v1"])
def test_a_deployment_may_allow_its_own_network(url: str, settings: Any) -> None:
    assert is_refused(url)
    settings.ALLOW_PRIVATE_PROVIDER_URLS = True
    assert not is_refused(url)
