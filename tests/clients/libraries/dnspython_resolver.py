"""dnspython: even numbers are asked for over UDP, odd ones over TCP; all over TCP by a proxy."""

from __future__ import annotations

import dns.resolver
from support import HOST, Gate, Where
from support import Library as Base


class Library(Base):
    lost = (dns.resolver.NoNameservers,)

    def __init__(self, where: Where) -> None:
        super().__init__(where)
        self.resolver = dns.resolver.Resolver(configure=False)
        self.resolver.nameservers = [HOST]
        self.resolver.port = where.port
        self.resolver.timeout = self.resolver.lifetime = 60.0

    def call(self, gate: Gate, number: int) -> None:
        tcp = number % 2 == 1 or self.where.port != self.where.direct
        answer = self.resolver.resolve(f"{number}.{gate.key}.test.", "A", tcp=tcp)
        assert [record.address for record in answer] == [f"10.0.0.{number}"]
