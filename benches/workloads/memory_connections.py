"""Resident memory of `size` idle connections, each with a greenlet or task parked in `recv`.

What a connection's socket object, its greenlet and the loop's notes of it take in the process; what
the kernel keeps for the connection is not the process's.
"""

from __future__ import annotations

from benches.companions.launch import Companion
from benches.harness import Bench, Metrics, check, main, raise_descriptor_limit, resident

WARM_UP = 100


def greenlets(bench: Bench) -> Metrics:
    from gevent import joinall, socket, spawn

    raise_descriptor_limit(bench.size + 64)

    def handle(connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(4096):
                connection.sendall(data)

    def park_many(size: int) -> float:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(4096)
            before = resident()
            arguments = ["--port", listener.getsockname()[1], "--connections", size]
            with Companion("idle_clients", *arguments, cpu=bench.companion_cpu) as clients:
                jobs = [spawn(handle, listener.accept()[0]) for _ in range(size)]
                # Each has parked by the time a later one has been answered.
                answered = spawn(clients_answered, clients)
                answered.get()
                grown = resident() - before
                check(not any(job.ready() for job in jobs), "a greenlet did not park")
            joinall(jobs, raise_error=True)
            return grown / size

    def clients_answered(clients: Companion) -> None:
        socket.wait_read(clients.output)
        clients.read()

    park_many(WARM_UP)
    return {"memory": park_many(bench.size)}


async def tasks(bench: Bench) -> Metrics:
    import asyncio

    raise_descriptor_limit(bench.size + 64)
    loop = asyncio.get_running_loop()

    async def park_many(size: int) -> float:
        ended = asyncio.Event()
        open_connections = 0

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal open_connections
            open_connections += 1
            while data := await reader.read(4096):
                writer.write(data)
                await writer.drain()
            writer.close()
            open_connections -= 1
            if not open_connections:
                ended.set()

        before = resident()
        server = await asyncio.start_server(handle, "127.0.0.1", 0, backlog=4096)
        arguments = ["--port", server.sockets[0].getsockname()[1], "--connections", size]
        with Companion("idle_clients", *arguments, cpu=bench.companion_cpu) as clients:
            answered = asyncio.Event()
            loop.add_reader(clients.output, answered.set)
            await answered.wait()
            loop.remove_reader(clients.output)
            clients.read()
            grown = resident() - before
            check(open_connections == size, "a task did not park")
        await ended.wait()
        server.close()
        return grown / size

    await park_many(WARM_UP)
    return {"memory": await park_many(bench.size)}


if __name__ == "__main__":
    main(greenlets=greenlets, tasks=tasks, size=10_000)
