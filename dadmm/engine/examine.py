"""Read all of a stored run, and say what is damaged or missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dask.delayed import delayed

from dadmm.engine.compute import compute
from dadmm.engine.contents import contents
from dadmm.engine.plan import Plan
from dadmm.engine.recovery import MOST_CHUNKS, check_key, damages, rows_of
from dadmm.engine.tasks import chunk_id
from dadmm.errors import DamageError, StoreError
from dadmm.store import Run, ZarrBlocks, metadata
from dadmm.store.arrays import COMMIT, PREVIOUS
from dadmm.store.commit import checked
from dadmm.store.files import ROOT
from dadmm.store.lock import LOCK


@dataclass
class Examination:
    """What a whole store holds, and what is wrong with it.

    Parameters
    ----------
    arrays, chunks : int
        How many were read.
    damaged : list of str
        One line for each array, chunk or file that is damaged or missing.
    left : list of str
        Files that belong to no array: a killed run leaves some, and resuming deletes them.
    """

    arrays: int
    chunks: int
    damaged: list[str]
    left: list[str]


def examine(plan: Plan) -> Examination:
    """Read a whole stored run, in tasks, and compare every byte with its checksum.

    What the run must have follows from its attributes and its commit record, not from the files
    that are there.
    """
    run, blocks = plan.run, plan.run.blocks
    assert isinstance(blocks, ZarrBlocks)
    wrong: list[str] = []

    def or_none(get: Callable[[], Any]) -> Any:
        try:
            return get()
        except DamageError as damage:
            wrong.append(str(damage))
            return None

    record = or_none(run.committed)
    before = or_none(lambda: checked(blocks.previous_record(), blocks.url, PREVIOUS))
    if record and record["iteration"] and before is None and not wrong:
        wrong.append(str(DamageError(blocks.url, PREVIOUS, None, "is missing")))
    history = or_none(run.history)
    if history is None and record:
        history = run.history(mend=True)
    must = contents(plan, record, [] if history is None else rows_of(history))
    wrong += [line for group in sorted(must.groups) if (line := _group_damage(blocks, group))]
    known = {ROOT, COMMIT, PREVIOUS, LOCK, *(f"{group}/{ROOT}" for group in must.groups)}
    chunks = 0
    for name in sorted(must.whole | must.begun):
        known.add(f"{name}/{ROOT}")
        try:
            spec = blocks.spec(name)
        except DamageError as damage:
            if name in must.begun:  # others are told of below
                wrong.append(str(damage))
            continue
        count = min(spec.count, MOST_CHUNKS)
        chunks += count if name in must.whole else 0
        known |= {f"{name}/{spec.file(chunk)}" for chunk in range(count)}
    told = set(wrong)
    wrong += [line for line in map(str, damages(run, sorted(must.whole))) if line not in told]
    wrong += _changed(plan)
    return Examination(len(must.whole), chunks, wrong, sorted(set(blocks.files.walk()) - known))


def _group_damage(blocks: ZarrBlocks, group: str) -> str | None:
    """Return a line on what is wrong with the metadata of a group; None if nothing is."""
    path = f"{group}/{ROOT}"
    try:
        metadata.parse_group(blocks.files.text(path))
    except (FileNotFoundError, NotADirectoryError):
        return f"{blocks.url}: {path} is missing"
    except (ValueError, StoreError, OSError) as error:
        return f"{blocks.url}: {path} is damaged ({error})"
    return None


def _changed(plan: Plan) -> list[str]:
    """Return one line for each damaged chunk of inputs outside the store."""
    if "x" not in plan.run.attributes.get("sources", {}):
        return []
    key = check_key(plan.run)
    tasks = [
        delayed(_complaint, pure=False)(plan.run, chunk, dask_key_name=f"{key}-x-{chunk_id(chunk)}")
        for chunk in range(len(plan.chunks))
    ]
    return [text for text in compute(delayed(list)(tasks)) if text]


def _complaint(run: Run, chunk: int) -> str:
    try:
        run.read_data("x", chunk)
    except StoreError as error:
        return str(error)
    return ""
