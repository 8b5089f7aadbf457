"""Tag the texts of concurrent requests together, in batches, one batch at a time."""

import asyncio
import logging
import traceback
from collections import deque
from collections.abc import Callable, Sequence

from xner.tagger import Tagged

_LOG = logging.getLogger(__name__)

Tag = Callable[[Sequence[str]], list[Tagged]]
"""A function that tags texts, such as a ``Tagger``."""


class TaggingError(Exception):
    """A batch could not be tagged, because of a defect that the log describes."""


class TagQueue:
    """Collect texts that wait to be tagged, and tag them in the order of their arrival.

    Batches are made of texts, not of requests, so that the texts of a request whose time is up need not be tagged.

    Args:
        tag: Tags the texts of a batch; called in one thread at a time.
        wait: Seconds from the first text of a batch until it is tagged, for others to arrive.
        characters: Characters after which no further text is added to a batch.
    """

    def __init__(self, tag: Tag, *, wait: float = 0.005, characters: int = 4_000) -> None:
        self._tag = tag
        self._wait = wait
        self._characters = characters
        self._waiting: deque[tuple[str, asyncio.Future[Tagged]]] = deque()
        self._arrived = asyncio.Event()

    async def tag(self, texts: Sequence[str]) -> list[Tagged]:
        """Tag texts while ``work`` runs; where this is cancelled, those that still wait are not tagged.

        Args:
            texts: The texts.

        Returns:
            The result for each text.

        Raises:
            TaggingError: If a batch could not be tagged.
        """
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Tagged]] = [loop.create_future() for _ in texts]
        self._waiting.extend(zip(texts, futures, strict=True))
        self._arrived.set()
        return await asyncio.gather(*futures)

    async def work(self) -> None:
        """Tag batches until it is cancelled."""
        while True:
            await self._arrived.wait()
            await asyncio.sleep(self._wait)
            batch = self._take()
            if not self._waiting:
                self._arrived.clear()
            if batch:
                await self._tag_batch([text for text, _ in batch], [future for _, future in batch])

    def _take(self) -> list[tuple[str, asyncio.Future[Tagged]]]:
        """Remove the texts of the next batch."""
        batch, size = [], 0
        while self._waiting and size < self._characters:
            text, future = self._waiting.popleft()
            if not future.done():
                batch.append((text, future))
                size += len(text)
        return batch

    async def _tag_batch(self, texts: list[str], futures: list[asyncio.Future[Tagged]]) -> None:
        try:
            results = await asyncio.to_thread(self._tag, texts)
        except Exception as error:
            # Without the message, which may quote a text.
            trace = "".join(traceback.format_tb(error.__traceback__))
            _LOG.error("A batch of %d texts could not be tagged: %s\n%s", len(texts), type(error).__name__, trace)
            for future in futures:
                if not future.done():
                    future.set_exception(TaggingError())
            return
        for future, tagged in zip(futures, results, strict=True):
            if not future.done():
                future.set_result(tagged)
