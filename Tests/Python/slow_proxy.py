"""A TCP proxy that keeps what passes for a while: HOST PORT TARGET-HOST TARGET-PORT MILLISECONDS."""

import asyncio
import sys

# What is held for one direction of a connection at most; a sender that is faster waits.
HELD_CHUNKS = 256


async def pass_on(reader, writer, seconds):
    held = asyncio.Queue(HELD_CHUNKS)
    loop = asyncio.get_running_loop()

    async def send():
        while True:
            due, chunk = await held.get()
            await asyncio.sleep(max(0, due - loop.time()))
            if not chunk:
                writer.close()
                return
            writer.write(chunk)
            await writer.drain()

    sending = asyncio.create_task(send())
    try:
        while True:
            chunk = await reader.read(65536)
            await held.put((loop.time() + seconds, chunk))
            if not chunk:
                break
        await sending
    except ConnectionError:
        writer.close()
    finally:
        sending.cancel()


async def main(host, port, target, target_port, milliseconds):
    async def accept(reader, writer):
        try:
            there, back = await asyncio.open_connection(target, int(target_port))
        except OSError:
            writer.close()
            return
        seconds = int(milliseconds) / 1000
        await asyncio.gather(pass_on(reader, back, seconds), pass_on(there, writer, seconds))

    server = await asyncio.start_server(accept, host, int(port))
    print("ready", flush=True)
    async with server:
        await server.serve_forever()


asyncio.run(main(*sys.argv[1:]))
