"""Clients that keep an address busy and know the right answers."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.e2e.processes import GOLDEN

PAUSE, RESTING = 0.02, 0.1  # seconds between a client's posts: enough are on their way, and cores are left for the rest
DIGITS = [(str(digit), (GOLDEN / f"digit-{digit}.png").read_bytes()) for digit in range(10)]


class Clients:
    """Clients that post digits one after another, half of them on a new connection each time.

    `outcomes` has nothing but `right` as long as all are answered, and rightly.
    """

    def __init__(self, url: str, number: int) -> None:
        self.outcomes: Counter[str] = Counter()
        self.versions: Counter[str] = Counter()
        self._changed = asyncio.Condition()
        self._stopping = False
        self._pause_seconds = PAUSE
        self._tasks = [asyncio.create_task(self._post(url, keep_alive=i % 2 == 0)) for i in range(number)]

    async def _post(self, url: str, keep_alive: bool) -> None:
        headers = {"x-deadline-ms": "60000"}  # a slow machine is no reason to be refused here
        headers |= {} if keep_alive else {"connection": "close"}
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client:
            while not self._stopping:
                for digit, image in DIGITS:
                    self.outcomes[await self._ask(client, digit, image)] += 1
                    async with self._changed:
                        self._changed.notify_all()
                    await asyncio.sleep(self._pause_seconds)

    async def _ask(self, client: httpx.AsyncClient, digit: str, image: bytes) -> str:
        try:
            response = await client.post("/v1/classify", content=image)
            answer = response.json()
        except (httpx.TransportError, ValueError) as error:
            return repr(error)
        # The label of a copy of the bundle is its name and version, and the digit.
        if response.status_code != 200 or answer["predictions"][0]["label"].split()[-1] != digit:
            return f"{response.status_code} {answer}"
        self.versions[answer["model"]["version"]] += 1
        return "right"

    @contextmanager
    def resting(self) -> Iterator[None]:
        """In the block they pause for longer, so that they leave the cores to what starts in it."""
        self._pause_seconds = RESTING
        try:
            yield
        finally:
            self._pause_seconds = PAUSE

    async def more_answers(self, number: int = 100) -> None:
        async with self._changed, asyncio.timeout(60):
            enough = self.outcomes["right"] + number
            await self._changed.wait_for(lambda: self.outcomes["right"] >= enough)

    async def stop(self) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)
