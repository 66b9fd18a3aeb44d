"""Batch jobs: train, resume, evaluate and predict as a config says, with a log of JSON lines.

A job that is started again does only what is left to do, so cron, Slurm or Kubernetes may start
it again and again.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import numpy as np

from dadmm.app.build import (
    make_estimator,
    method_of,
    parameter_digest,
    refuse_other,
    source_of,
    stored_config,
)
from dadmm.app.config import differences, load_config
from dadmm.app.process import CODES, ending, sigterm_interrupts, tidy_warnings
from dadmm.app.schema import SCHEMA
from dadmm.app.scores import count_rows, metrics
from dadmm.cluster import connection
from dadmm.data.frames import Frame
from dadmm.data.table import reading_of
from dadmm.data.write import (
    as_table,
    changed_last,
    check_output,
    is_complete,
    plain,
    predict_parts,
)
from dadmm.datasets import load_data
from dadmm.engine.live.dashboard import open_page
from dadmm.engine.session import Session
from dadmm.errors import (
    DamageError,
    InputError,
    LockedError,
    ShapeError,
    StoreError,
    TakenError,
)
from dadmm.estimators.load import load, resume, trained
from dadmm.estimators.nmf import NMF
from dadmm.store.place import absolute
from dadmm.store.replace import as_json, record, replace_file, writing


class Log:
    """JSON lines about one job, each written at once.

    Every line has `time` (UTC, ISO 8601), `level` (info, warning, error), `event`, `job` and `run`;
    numbers are finite or null.

    Parameters
    ----------
    job, run : str
    stream : text file
    """

    def __init__(self, job: str, run: str, stream: IO[str]) -> None:
        self._always = {"job": job, "run": run}
        self._stream = stream

    def __call__(self, event: str, level: str = "info", /, **more: Any) -> None:
        """Write a line."""
        time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"time": time, "level": level, "event": event, **self._always, **more}
        print(json.dumps(_finite(line), allow_nan=False), file=self._stream, flush=True)

    def iteration(self, k: int, row: Mapping[str, float]) -> None:
        """Write a line about a committed iteration; `fit` calls this."""
        self("iteration", iteration=k, **{n: v for n, v in row.items() if n != "generation"})


def _finite(value: Any) -> Any:
    """Return a value for JSON, with NaN and infinity as None."""
    if isinstance(value, Mapping):
        return {str(name): _finite(v) for name, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def train(config: Mapping[str, Any], log: Log) -> None:
    """Train as the config says; go on with the run if there is one.

    Raises
    ------
    StoreError
        If ``run.path`` holds a run of another config, or something else.
    LockedError
        If another driver is at work on the run.
    """
    path = config["run"]["path"]
    estimator = make_estimator(config, path)
    session = _open(path)
    if session is not None:
        refuse_other(session, estimator, "choose another run.path, or remove it")
        with suppress(DamageError):  # resuming goes back to what is intact
            if session.is_done(estimator.max_iter):
                _done(log, trained(session), "there was nothing left to do")
                return
    with _place(config.get("cluster", {}), log):
        if session is not None and session.can_go_on:
            estimator = resume(path, callback=log.iteration)
        else:  # a run that was killed before its data was stored begins anew
            estimator.overwrite = session is not None
            x, y, *_ = load_data(config["data"], supervised=not isinstance(estimator, NMF))
            try:
                estimator.fit(x, y, callback=log.iteration)
            except TakenError as error:  # the run was not there a moment ago
                raise LockedError(f"{path} was started by another driver just now") from error
    _done(log, estimator)


def resume_run(config: Mapping[str, Any], log: Log) -> None:
    """Go on with a run, to the same bits as without the stop; [resume] may raise its limit."""
    path, options = config["run"]["path"], config.get("resume", {})
    place = config.get("cluster")
    if place is None:
        place, left = connection.of_a_store(stored_config(path).get("cluster", {}))
        if left:
            what = f"{' and '.join(left)} of a stored [cluster] {connection.NOT_FOLLOWED}"
            log("warning", "warning", message=what)
    with _place(place, log):
        estimator = resume(path, callback=log.iteration, **options)
    _done(log, estimator)


def _open(path: str) -> Session | None:
    try:
        return Session.open(path)
    except DamageError:
        raise
    except StoreError:
        return None  # nothing is there, or no run: creating the store then raises the error


@contextmanager
def _place(table: Mapping[str, Any], log: Log) -> Iterator[None]:
    with connection.connect(table) as client:
        log("started", workers=table.get("workers", 0), dashboard=open_page(client))
        yield


def _done(log: Log, estimator: Any, note: str | None = None) -> None:
    attributes = estimator.history_.attrs
    numbers = {name: v for name, v in attributes.items() if name != "status"}
    notes = {} if note is None else {"note": note}
    log("done", status=attributes["status"], iterations=estimator.n_iter_, **numbers, **notes)


def evaluate(config: Mapping[str, Any], log: Log) -> None:
    """Score a run's network and write the scores into a JSON file, which is replaced whole.

    The data is the config's, by default that of the run's own config: the rows held out for the
    test, or all rows if none are held out.
    """
    path, output = config["run"]["path"], config["evaluate"]["output"]
    model = load(path)
    table = config.get("data") or stored_config(path).get("data")
    if table is None:
        raise InputError(f"{path} was trained without a config: say what to score on in [data]")
    x, y, x_test, y_test = load_data(table, supervised=not isinstance(model, NMF))
    held_out = x_test is not None
    if held_out:
        x, y = x_test, y_test
    with _place(config.get("cluster", {}), log):
        scores = metrics(model, x, y)
    found = {
        "run": path,
        "iterations": getattr(model, "n_iter_", None),
        "parameters": parameter_digest(model),
        "data": table,
        "held_out": held_out,
        "rows": count_rows(model, x, y),
        "metrics": scores,
    }
    replace_file(output, as_json(_finite(found)))
    numbers = {name: v for name, v in scores.items() if isinstance(v, float)}
    log("done", output=output, rows=found["rows"], held_out=held_out, **numbers)


def predict(config: Mapping[str, Any], log: Log) -> None:
    """Predict for the rows of a file, some at a time; finished parts are kept.

    Raises
    ------
    InputError
        If the output holds something else, and ``predict.overwrite`` is not set.
    """
    path, options = config["run"]["path"], config["predict"]
    source, target = options["input"], absolute(options["output"])
    if "://" in target:
        raise InputError(f"[predict] output={target!r}: a job writes to a local path")
    model = load(path)
    x = model.opened(source_of(path, source, reading_of(options)))
    if getattr(x, "shape", None) == ():
        raise ShapeError(f"{source} holds one number, not rows of features")
    if not isinstance(getattr(x, "shape", (None,))[0], int):
        raise InputError(f"{source} is too large a table, or a data set: use `dadmm predict`")
    proba, codes = options.get("proba", False), options.get("codes", False)
    how = method_of(model, path, proba, codes)
    job = {
        "parameters": parameter_digest(model),
        "input": source,
        "files": changed_last(source),
        "shape": list(x.shape),
        "dtype": str(x.dtype if hasattr(x, "dtype") else x.dtypes.tolist()),
        "columns": model.classes_.tolist() if proba else ["codes"] if codes else None,
    }
    if is_complete(target, job):
        log("done", output=target, rows=x.shape[0], note="there was nothing left to do")
        return
    other = record(Path(f"{target}.json"))
    if Path(target).exists() and other != job and not options.get("overwrite", False):
        what = "something else"
        if isinstance(other, dict):
            what = f"predictions for something else ({'; '.join(differences(other, job)[:2])})"
        raise InputError(
            f"{target} holds {what}: choose another output, or set [predict] overwrite = true"
        )
    check_output(path, source, target, overwrite=True)
    log("started", input=source, output=target, rows=x.shape[0])

    def values(rows: Any) -> Any:
        found = np.asarray(how(rows))
        # All parts get one dtype of labels, however long their texts are.
        labels = found.ndim == 1 and not codes and hasattr(model, "classes_")
        return found.astype(plain(model.classes_).dtype) if labels else found

    def finish(whole: Any) -> Any:
        tabular = hasattr(x, "iloc") and Path(target).suffix in (".csv", ".parquet")
        return as_table(whole, x.index, how(Frame(x.iloc[:1], indexed=True))) if tabular else whole

    predict_parts(
        values,
        x,
        target,
        job,
        options.get("rows", SCHEMA["predict"]["rows"].default),
        lambda first, last: log("part", first=first, last=last),
        finish,
    )
    log("done", output=target, rows=x.shape[0])


Job = Callable[[Mapping[str, Any], Log], None]

JOBS: dict[str, tuple[Job, tuple[str, ...]]] = {
    "train": (train, ("data", "run.path")),
    "resume": (resume_run, ("run.path",)),
    "evaluate": (evaluate, ("run.path", "evaluate.output")),
    "predict": (predict, ("run.path", "predict.input", "predict.output")),
}


def main(job: str, script: str, about: str | None) -> None:
    """Run a job with the config that the command line names, and exit.

    Parameters
    ----------
    job : {"train", "resume", "evaluate", "predict"}
    script : str
        The script's file; the default config lies beside it, under the same name.
    about : str
        The text of --help.
    """
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # as for the command line
    parser = argparse.ArgumentParser(
        description=about, epilog=CODES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    beside = Path(script).with_suffix(".toml")
    parser.add_argument("config", nargs="?", default=str(beside), help=f"by default {beside.name}")
    sys.exit(run_job(job, parser.parse_args().config))


def run_job(name: str, path: str) -> int:
    """Run a job with the config at `path`; return the exit code."""
    job, needs = JOBS[name]
    log = Log(name, "", sys.stdout)
    try:
        with sigterm_interrupts():
            config = load_config(path, needs)
            with _stream(config.get("log", {}).get("file")) as stream:
                log = Log(name, config["run"]["path"], stream)
                return _logged(job, config, log)
    except (Exception, KeyboardInterrupt) as error:
        return _failed(error, log)


def _logged(job: Job, config: Mapping[str, Any], log: Log) -> int:
    try:
        with tidy_warnings(lambda text: log("warning", "warning", message=text)):
            job(config, log)
    except (Exception, KeyboardInterrupt) as error:
        return _failed(error, log)
    return 0


@contextmanager
def _stream(file: str | None) -> Iterator[IO[str]]:
    if file is None:
        yield sys.stdout
        return
    with writing(f"[log] {file}"):
        stream = Path(file).open("a", encoding="utf-8")  # noqa: SIM115 - closed below
    with stream:
        yield stream


def _failed(error: BaseException, log: Log) -> int:
    """Write how a job ended to the log and the standard error; return the exit code."""
    code, text = ending(error)
    if not text:
        text = "stopped; start it again to go on"
        level, event = "warning", "stopped"
    else:
        level, event = "error", "failed"
    with suppress(OSError, ValueError):  # the disk may be full, and the log closed because of it
        log(event, level, error=type(error).__name__, message=text, exit_code=code)
    with suppress(OSError):
        print(f"{event}: {text}", file=sys.stderr, flush=True)
    return code
