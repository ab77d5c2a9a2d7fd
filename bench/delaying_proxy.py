"""A TCP proxy that delivers what either side sends after a while, as a network between them would: `python -m
bench.delaying_proxy PORT SECONDS` says its own port, and forwards to PORT of this machine."""

import asyncio
import sys


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
    """In order; what comes while something is under way is under way too."""
    loop = asyncio.get_running_loop()
    sent: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def deliver() -> None:
        while True:
            due, data = await sent.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not data:
                writer.close()
                return
            writer.write(data)

    delivering = asyncio.create_task(deliver())
    try:
        while data := await reader.read(1 << 16):
            sent.put_nowait((loop.time() + delay_s, data))
    except ConnectionError:
        pass
    sent.put_nowait((loop.time() + delay_s, b""))
    await delivering


async def main(port: int, delay_s: float) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_pass_on(reader, to, delay_s), _pass_on(there, writer, delay_s), return_exceptions=True)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    try:
        import uvloop

        uvloop.install()
    except ImportError:
        pass
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
