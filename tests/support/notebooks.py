"""Notebooks executed in a thread."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from nbclient import NotebookClient


def execute(notebook, **options):
    """Execute a notebook, in an event loop that is closed afterwards; nbclient's own never is.

    In a thread: `asyncio.run` leaves no current loop behind, in whose place tornado would put one
    that nobody closes.
    """
    made = NotebookClient(notebook, kernel_name="python3", **options)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(made.async_execute())).result()
