"""The measure that allocate is held against: an RPC echo in plain aio-pika, a process of its own.

It takes from the same kind of queue with the same prefetch as the allocator, answers each request with one
fixed `Allocated`, unconfirmed through the default exchange, and acks what has arrived together once.
"""

import asyncio
import os
import sys

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from bench.answer import ANSWER
from broker.codec import CONTENT_TYPE
from compose.running import run_until_stopped

PREFETCH = 256


async def echo(url: str, queue_name: str) -> None:
    """Answer what arrives until cancelled."""
    body = b'{"result":' + ANSWER.model_dump_json().encode() + b',"error":null}'
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel(publisher_confirms=False)
        await channel.set_qos(prefetch_count=PREFETCH)
        queue = await channel.get_queue(queue_name, ensure=False)
        arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        await queue.consume(arrived.put)
        while True:
            batch = [await arrived.get()]
            while not arrived.empty():
                batch.append(arrived.get_nowait())
            for message in batch:
                answer = aio_pika.Message(
                    body,
                    content_type=CONTENT_TYPE,
                    type=message.type,
                    correlation_id=message.correlation_id,
                )
                await channel.default_exchange.publish(answer, message.reply_to or "", mandatory=False)
            await batch[-1].ack(multiple=True)


if __name__ == "__main__":
    run_until_stopped(echo(os.environ["BENCH_AMQP_URL"], sys.argv[1]))
