"""What the clients of one worker hold of it: connections, unfinished bodies, unsent answers.

When one of them runs out, the client that holds the most gives back first, so that nobody can take
what all need. Clients are counted by address (IPv6: by network). Trusted proxies are exempt from
limits per client: all of their users share one address.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from classmark.service.requests.exchange import Networks, network_of

if TYPE_CHECKING:
    from classmark.service.http.protocol import GuardedProtocol as Connection


class Shares:
    """The connections of a worker by client, oldest first.

    Attributes:
        body_bytes: of all unfinished requests together.
    """

    def __init__(self, trusted_proxies: str) -> None:
        """Begin without connections.

        Args:
            trusted_proxies: addresses and networks separated by commas, or ``*`` for all.
        """
        self.body_bytes = 0
        self._connections: dict[str, dict[Connection, None]] = {}
        self._slow_readers: dict[Connection, None] = {}
        self._trusted = Networks(trusted_proxies)

    def is_trusted(self, address: str) -> bool:
        """Return whether an address is that of a trusted proxy."""
        return address in self._trusted

    def client_of(self, address: str) -> str:
        """Return whom a connection counts for; "" for a trusted proxy or without an address."""
        return "" if not address or self.is_trusted(address) else network_of(address)

    def add(self, connection: Connection) -> None:
        """Count a connection."""
        self._connections.setdefault(connection.client_network, {})[connection] = None

    def remove(self, connection: Connection) -> None:
        """Forget a connection."""
        self._slow_readers.pop(connection, None)
        of_client = self._connections[connection.client_network]
        del of_client[connection]
        if not of_client:
            del self._connections[connection.client_network]

    def count(self, client: str) -> int:
        """Return how many connections a client has."""
        return len(self._connections[client])

    def must_give_way(self, newcomer: Connection) -> Connection:
        """Return which connection to end when there is one too many.

        It is the newest of the client with the most, unless that is the newcomer's own client.
        """
        counts = {client: len(all_) for client, all_ in self._connections.items() if client}
        client = max(counts, key=counts.__getitem__, default="")
        if counts.get(client, 0) <= self.count(newcomer.client_network):
            return newcomer
        newest_first = reversed(self._connections[client])
        return next((c for c in newest_first if c.may_give_way()), newcomer)

    def note_slow_reader(self, connection: Connection, *, is_slow: bool) -> None:
        """Note whether a client reads its answer more slowly than it is sent."""
        if is_slow:
            self._slow_readers[connection] = None
        else:
            self._slow_readers.pop(connection, None)

    def unsent_bytes(self) -> int:
        """Return how many bytes of answers wait for their clients."""
        return sum(connection.unsent_bytes() for connection in self._slow_readers)

    def heaviest(self, weight: Callable[[Connection], int]) -> Connection:
        """Return the heaviest connection of the client whose connections weigh most in total."""
        clients = self._connections.values()
        of_client = max(clients, key=lambda connections: sum(map(weight, connections)))
        return max(of_client, key=weight)
