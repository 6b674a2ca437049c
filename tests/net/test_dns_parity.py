"""The resolvers find what the C library finds, from the same files and name server.

In namespaces of its own a script (dns_parity.py) has a name server on port 53 of a loopback
address, and its own files in /etc. Where the system does not allow that, the tests are skipped.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import SCRIPT_TIMEOUT, USE_PEER

pytestmark = [
    pytest.mark.skipif(USE_PEER, reason="gevent's resolvers differ from the C library"),
    pytest.mark.timeout(4 * SCRIPT_TIMEOUT),
]

HOSTS = """\
127.0.0.1 localhost
::1 localhost ip6-localhost ip6-loopback
10.5.0.1 inhosts inhosts.test alias-of-it
10.5.0.2 hosts-and-dns.test
10.5.0.3 several
10.5.0.4 several more
2001:db8::5 several sixhosts
::ffff:10.5.0.5 mappedhost
"""

FILES = {
    "resolv.conf": "nameserver 127.0.0.53\nsearch corp.test other.test\n"
    "options timeout:1 attempts:1\n",
    "hosts": HOSTS,
    "nsswitch.conf": "hosts: files dns\nservices: files\nprotocols: files\n",
    "host.conf": "multi on\n",
    "gai.conf": "",
}

OTHER = {
    "resolv.conf": "nameserver 127.0.0.53\nsearch corp.test\noptions ndots:2 edns0\n",
    "nsswitch.conf": "hosts: dns [NOTFOUND=return] files\nservices: files\n",
    "gai.conf": "precedence ::ffff:0:0/96 100\nscopev4 10.0.0.0/8 5\n",
}

FEWER = {
    "resolv.conf": "nameserver 127.0.0.53\nsearch .\noptions no-tld-query single-request\n",
    "nsswitch.conf": "hosts: files mdns4_minimal [NOTFOUND=return] dns\nservices: files\n",
    "host.conf": "multi off\n",
    "gai.conf": "label ::/0 1\nlabel ::ffff:0:0/96 1\n",
}

ONLY_FILES = {"nsswitch.conf": "hosts: files\nservices: files\n"}


def unshared(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["unshare", "--mount", "--net", "--map-root-user", *command],
        capture_output=True,
        encoding="utf-8",
        timeout=3 * SCRIPT_TIMEOUT,
        check=False,
        **options,  # type: ignore[call-overload]
    )


@pytest.fixture(scope="module", autouse=True)
def namespaces(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip where there are none to be had, or another C library."""
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("the C library is not glibc, which the resolvers follow")
    if not shutil.which("unshare"):
        pytest.skip("needs unshare (util-linux)")
    if not all(Path("/etc", name).exists() for name in FILES):
        pytest.skip(f"needs files in /etc to put others in their place: {', '.join(FILES)}")
    file = tmp_path_factory.mktemp("namespaces") / "hosts"
    file.write_text(HOSTS)
    done = unshared(["mount", "--bind", str(file), "/etc/hosts"])
    if done.returncode:
        pytest.skip(f"namespaces are not allowed: {done.stderr.strip()}")


@pytest.mark.parametrize(
    ("resolver", "files", "options"),
    [
        ("native", {}, ["--silent"]),
        ("native", OTHER, []),
        ("native", FEWER, []),
        ("native", ONLY_FILES, []),
        ("dnspython", {}, []),
        ("thread", {}, []),
    ],
    ids=["native", "native-other", "native-fewer", "native-files", "dnspython", "thread"],
)
def test_look_ups_are_those_of_the_c_library(
    resolver: str, files: dict[str, str], options: list[str], tmp_path: Path
) -> None:
    if resolver == "dnspython" and importlib.util.find_spec("dns") is None:
        pytest.skip("needs dnspython")
    for name, text in (FILES | files).items():
        (tmp_path / name).write_text(text)
    script = Path(__file__).with_name("dns_parity.py")
    env = {key: value for key, value in os.environ.items() if not key.startswith("RES_")}
    env.pop("LOCALDOMAIN", None)
    done = unshared([sys.executable, str(script), resolver, str(tmp_path), *options], env=env)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["cases"] > 1000
    # Of all that differs on purpose there is little.
    assert result["tolerated"] < result["cases"] / 10
    different = result["different"]
    assert not different, "\n".join(
        f"{call}\n    C library {expected}\n    {resolver} {found}"
        for call, expected, found in different[:20]
    )
