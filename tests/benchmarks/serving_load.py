"""A light load: requests at stated times over HTTP, each answer timed and compared with what it must be."""

import asyncio
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.serving.request_log import RETRY_AFTER_SECONDS

Check = Callable[[int, int, dict[str, Any]], str | None]
"""Number of a picture, version and answer -> what is wrong with it."""


@dataclass
class Outcome:
    """What came of a load.

    Attributes:
        seconds: of each request that was answered, from the time when it was due.
        statuses: how often each came.
        wrong: what was wrong, or lost.
        wall_seconds: of all of it.
    """

    seconds: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    wall_seconds: float = 0.0

    def tell(self) -> str:
        """Returns requests a second and the percentiles."""
        if not self.seconds:
            return "nothing was answered"
        percentiles = "/".join(f"{1000 * value:.0f}" for value in np.percentile(self.seconds, [50, 95, 99]))
        rate = len(self.seconds) / self.wall_seconds
        return f"{rate:.1f} requests/s, p50/p95/p99 {percentiles} ms, {self.statuses}, {len(self.wrong)} wrong or lost"


async def send(port: int, body: bytes, kind: str = "image/jpeg") -> tuple[int, int, dict[str, Any]]:
    """Sends one request on a connection of its own; returns status, version and answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head = f"POST /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {kind}\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = await reader.read()
    finally:
        writer.close()
    told, _, content = answer.partition(b"\r\n\r\n")
    lines = told.decode("latin-1").lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), int(headers.get("x-model-version", "-1")), json.loads(content)


async def cut(port: int, body: bytes) -> None:
    """Sends a part of a request, or all of it, and goes away."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
    request = head.encode() + body
    writer.write(request[: random.randint(1, len(request))])
    await asyncio.sleep(random.random() / 50)
    writer.transport.abort()


async def run_clients(port: int, bodies: Sequence[bytes], clients: int, seconds: float) -> Outcome:
    """Runs clients that each send the next request when the last one is answered.

    A client whose request is refused since the queue is full waits as it is told, and sends it again: its time counts.
    """
    outcome, start = Outcome(), time.perf_counter()

    async def client(number: int) -> None:
        begun = time.perf_counter()
        while time.perf_counter() - start < seconds:
            status, _, answer = await send(port, bodies[number % len(bodies)])
            if status == 503:
                outcome.statuses[status] = outcome.statuses.get(status, 0) + 1
                await asyncio.sleep(RETRY_AFTER_SECONDS)
                continue
            _note(outcome, status, time.perf_counter() - begun, None if status == 200 else str(answer))
            begun = time.perf_counter()
            number += clients

    await asyncio.gather(*map(client, range(clients)))
    outcome.wall_seconds = time.perf_counter() - start
    return outcome


async def run_rate(
    port: int,
    bodies: Sequence[bytes],
    rate: float,
    seconds: float,
    check: Check | None = None,
    garbage: Sequence[bytes] = (),
    garbage_share: float = 0.0,
    cut_share: float = 0.0,
) -> Outcome:
    """Sends so many requests a second, whether or not those before are answered."""
    outcome, start, tasks = Outcome(), time.perf_counter(), set()
    choose = random.Random(0)

    async def one(number: int, due: float) -> None:
        draw = choose.random()
        if draw < cut_share:
            await cut(port, bodies[number % len(bodies)])
            return
        is_garbage = draw < cut_share + garbage_share
        body = choose.choice(garbage) if is_garbage else bodies[number % len(bodies)]
        try:
            status, version, answer = await send(port, body)
        except (OSError, ValueError, IndexError) as error:
            outcome.wrong.append(f"lost: {error!r}")
            return
        if is_garbage:
            fault = None if status == 400 and list(answer) == ["error"] else f"garbage got {status} {answer}"
        elif status == 503:
            fault = None  # Refused, and told so.
        elif status != 200:
            fault = f"{status} {answer}"
        else:
            fault = check(number % len(bodies), version, answer) if check else None
        _note(outcome, status, time.perf_counter() - start - due, fault)

    number = 0
    while (due := number / rate) < seconds:
        await asyncio.sleep(max(0.0, start + due - time.perf_counter()))
        task = asyncio.create_task(one(number, due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        number += 1
    await asyncio.gather(*tasks)
    outcome.wall_seconds = time.perf_counter() - start
    return outcome


def _note(outcome: Outcome, status: int, seconds: float, fault: str | None) -> None:
    outcome.statuses[status] = outcome.statuses.get(status, 0) + 1
    outcome.seconds.append(seconds)
    if fault:
        outcome.wrong.append(fault)
