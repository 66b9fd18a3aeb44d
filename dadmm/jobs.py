"""Batch jobs: train, resume, evaluate and predict as a config says, told in JSON lines.

A job that is started again does what is left to do, and nothing if that is nothing; so it may be
started by cron, or again and again by Slurm or Kubernetes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from inspect import signature
from pathlib import Path
from typing import IO, Any

import numpy as np
import xarray as xr

from dadmm import cluster, data
from dadmm.config import check_config, differences, load_config
from dadmm.datasets import load_data
from dadmm.decomposition import NMF, DeepFacto
from dadmm.errors import (
    DamageError,
    InputError,
    LockedError,
    OptionError,
    ShapeError,
    StoreError,
    TakenError,
)
from dadmm.estimator import ADMMClassifier, ADMMRegressor
from dadmm.files import replace_file, writing
from dadmm.inputs.files import is_table, open_path
from dadmm.options import make_solver
from dadmm.predictions import (
    as_json,
    changed_last,
    check_output,
    is_complete,
    plain,
    predict_parts,
    record,
)
from dadmm.process import CODES, ending, sigterm_interrupts, tidy_warnings
from dadmm.schema import SCHEMA
from dadmm.store import Run
from dadmm.stored import is_done, load, resume
from dadmm.watch.dashboard import open_page

# What of a config a run keeps.
KEPT = ("data", "model", "solver", "cluster")


# --------------------------------------------------------------------------------------------- log


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
        """Write a line about a committed iteration: a callback of `fit`."""
        self("iteration", iteration=k, **{n: v for n, v in row.items() if n != "generation"})


def _finite(value: Any) -> Any:
    """Return a value that JSON has, NaN and infinity as None."""
    if isinstance(value, Mapping):
        return {str(name): _finite(v) for name, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


# ----------------------------------------------------------------------------------------- training


KINDS = {"classification": ADMMClassifier, "regression": ADMMRegressor, "factorization": NMF}
# Where a key of [model] belongs, in words.
HOMES = {
    **{f"task={task!r}": kind for task, kind in KINDS.items()},
    "task='classification' with n_components": DeepFacto,
}


def make_estimator(config: Mapping[str, Any], path: str, overwrite: bool = False) -> Any:
    """Return the estimator that a checked config describes, with its run at `path`."""
    model = dict(config.get("model", {}))
    task = model.pop("task", "classification")
    kind = KINDS[task]
    if kind is ADMMClassifier and "n_components" in model:
        kind = DeepFacto
    known = signature(kind).parameters
    for key in model:
        if key not in known:
            here = next(home for home, has in HOMES.items() if has is kind)
            homes = [home for home, has in HOMES.items() if key in signature(has).parameters]
            raise OptionError(f"[model] {key} is no key of {here}: it is for {' or '.join(homes)}")
    if "solver" in known:
        model["solver"] = make_solver(config.get("solver", {}))
    elif config.get("solver"):
        raise OptionError(f"[solver] is for networks, not for task={task!r}: leave it out")
    made = kind(
        run=path,
        overwrite=overwrite,
        memory_limit=config.get("cluster", {}).get("memory_limit"),
        **model,
    )
    made.pipeline = {table: config[table] for table in KEPT if table in config}
    return made


def refuse_other(run: Run, estimator: Any, cure: str) -> None:
    """Raise `StoreError` if a run has another config than an estimator that would go on with it."""
    here = estimator._config(estimator._make_solver())
    changed = differences(run.attributes["config"], here)
    # Where its data came from decides nothing about a run that the library began.
    stored, given = (each or {} for each in (run.attributes.get("pipeline"), estimator.pipeline))
    if "data" in stored and "data" in given:
        changed += differences(stored["data"], given["data"], "data.")
    if changed:
        raise StoreError(f"{run.url} exists with another config ({'; '.join(changed[:3])}): {cure}")


def stored_config(path: str) -> dict[str, Any]:
    """Return the config that a run was started with, {} if it was not started with one."""
    table = Run.open(path).attributes.get("pipeline") or {}
    if not isinstance(table, dict):
        raise StoreError(f"{path} cannot be used: its pipeline is no config")
    if table:
        check_config(table, path)  # others may have made the store
    return table


def index_of(path: str, source: str) -> str | None:
    """Return the column that names the rows of a table, as the config of a run says."""
    try:
        name = stored_config(path).get("data", {}).get("index") if is_table(source) else None
    except StoreError:
        return None  # a network without a run
    return name if isinstance(name, str) else None


def train(config: Mapping[str, Any], log: Log) -> None:
    """Train as the config says, from where the run stopped if it is there.

    Raises
    ------
    StoreError
        If there is a run of another config at ``run.path``, or something else.
    LockedError
        If another driver is at work on it.
    """
    path = config["run"]["path"]
    estimator = make_estimator(config, path)
    run = _open(path)
    if run is not None:
        refuse_other(run, estimator, "choose another run.path, or remove it")
        with suppress(DamageError):  # resuming goes back to what is intact
            if is_done(run, estimator.max_iter):
                _done(log, load(path), "there was nothing left to do")
                return
    with _place(config.get("cluster", {}), log):
        if run is not None and run.has_data:
            estimator = resume(path, callback=log.iteration)
        else:  # one that was killed before its data was stored begins anew
            estimator.overwrite = run is not None
            x, y, *_ = load_data(config["data"], supervised=not isinstance(estimator, NMF))
            try:
                estimator.fit(x, y, callback=log.iteration)
            except TakenError as error:  # it was not there a moment ago
                raise LockedError(f"{path} was started by another driver just now") from error
    _done(log, estimator)


def resume_run(config: Mapping[str, Any], log: Log) -> None:
    """Go on with a run, to the same bits as if it had never stopped; a new limit may be given."""
    path, options = config["run"]["path"], config.get("resume", {})
    place = config.get("cluster")
    if place is None:
        place, left = cluster.of_a_store(stored_config(path).get("cluster", {}))
        if left:
            what = f"{' and '.join(left)} of a stored [cluster] {cluster.NOT_FOLLOWED}"
            log("warning", "warning", message=what)
    with _place(place, log):
        estimator = resume(path, callback=log.iteration, **options)
    _done(log, estimator)


def _open(path: str) -> Run | None:
    try:
        return Run.open(path)
    except DamageError:
        raise
    except StoreError:
        return None  # nothing there, or nothing of ours: the store says so when it is created


@contextmanager
def _place(table: Mapping[str, Any], log: Log) -> Iterator[None]:
    with cluster.connect(table) as client:
        log("started", workers=table.get("workers", 0), dashboard=open_page(client))
        yield


def _done(log: Log, estimator: Any, note: str | None = None) -> None:
    attributes = estimator.history_.attrs
    numbers = {name: v for name, v in attributes.items() if name != "status"}
    notes = {} if note is None else {"note": note}
    log("done", status=attributes["status"], iterations=estimator.n_iter_, **numbers, **notes)


def parameter_digest(estimator: Any) -> str:
    """Return a SHA-256 over names, shapes, dtypes and bytes of the network's parameters."""
    found = hashlib.sha256()
    for name, array in sorted(estimator.network_.params.items()):
        found.update(f"{name} {array.dtype.str} {array.shape};".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


# ------------------------------------------------------------------------------------------- scores


def evaluate(config: Mapping[str, Any], log: Log) -> None:
    """Score a run's network and put the scores into a JSON file, which is replaced whole.

    On the config's data, by default that of the run's own config: the rows held out for the test,
    or all if none are.
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
        "rows": _rows(model, x, y),
        "metrics": scores,
    }
    replace_file(output, as_json(_finite(found)))
    numbers = {name: v for name, v in scores.items() if isinstance(v, float)}
    log("done", output=output, rows=found["rows"], held_out=held_out, **numbers)


def _rows(model: Any, x: Any, y: Any) -> int:
    if y is None:
        return int(model._contain(x).matrix(model._form).shape[0])
    return int(y.size if isinstance(y, xr.DataArray) else len(y))


def metrics(model: Any, x: Any, y: Any) -> dict[str, Any]:
    """Return scikit-learn's usual scores of a fitted estimator.

    Of a factorization: explained, the share of the squares.

    Classification: accuracy, balanced_accuracy, f1_macro, and the confusion matrix (rows: true
    classes, columns: predicted ones).  Several labels per row: accuracy (all labels of a row),
    hamming_loss, f1_macro, and such a matrix for each label.  Regression: r2, rmse, mae, averaged
    over targets.

    Raises
    ------
    DataError, ShapeError
        As `score` does, for data that do not fit the network.
    """
    from sklearn import metrics as sk

    if isinstance(model, NMF):
        return {"explained": model.score(x)}
    predicted, y, _ = model._scored(x, y)
    if isinstance(model, ADMMRegressor):
        y = data.as_targets(y, len(predicted))
        predicted = predicted.reshape(len(predicted), -1)
        if y.shape != predicted.shape:
            raise InputError(f"y has {y.shape[1]} targets, training had {predicted.shape[1]}")
        return {
            "r2": float(sk.r2_score(y, predicted)) if len(y) > 1 else math.nan,
            "rmse": float(sk.root_mean_squared_error(y, predicted)),
            "mae": float(sk.mean_absolute_error(y, predicted)),
        }
    y = data.as_column(y, len(predicted))
    classes = model.classes_
    if predicted.ndim == 2:
        y = data.as_indicators(y, len(classes))
        return {
            "accuracy": float(sk.accuracy_score(y, predicted)),
            "hamming_loss": float(sk.hamming_loss(y, predicted)),
            "f1_macro": float(sk.f1_score(y, predicted, average="macro", zero_division=0)),
            "classes": classes.tolist(),
            "confusion": sk.multilabel_confusion_matrix(y, predicted).tolist(),
        }
    data.encode_labels(y, classes)  # names labels that training never saw
    average: dict[str, Any] = {"average": "macro", "zero_division": 0}
    return {
        "accuracy": float(sk.accuracy_score(y, predicted)),
        "balanced_accuracy": float(sk.recall_score(y, predicted, labels=np.unique(y), **average)),
        "f1_macro": float(sk.f1_score(y, predicted, labels=classes, **average)),
        "classes": classes.tolist(),
        "confusion": sk.confusion_matrix(y, predicted, labels=classes).tolist(),
    }


# -------------------------------------------------------------------------------------- predictions


def predict(config: Mapping[str, Any], log: Log) -> None:
    """Predict for the rows of a file, some at a time; what is there already is not done again.

    Raises
    ------
    InputError
        If something else is where the predictions would go, and ``predict.overwrite`` is not set.
    """
    path, options = config["run"]["path"], config["predict"]
    source, target = options["input"], options["output"]
    if "://" in target:
        raise InputError(f"[predict] output={target!r}: a job writes to a local path")
    model = load(path)
    x = open_path(source, index=index_of(path, source))
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
        # Labels of one dtype in all parts, however long they are.
        labels = found.ndim == 1 and not codes and hasattr(model, "classes_")
        return found.astype(plain(model.classes_).dtype) if labels else found

    predict_parts(
        values,
        x,
        target,
        job,
        options.get("rows", SCHEMA["predict"]["rows"].default),
        lambda first, last: log("part", first=first, last=last),
    )
    log("done", output=target, rows=x.shape[0])


def method_of(model: Any, path: str, proba: bool, codes: bool) -> Callable[[Any], Any]:
    """Return what predicts: labels or numbers, probabilities, or codes.

    Raises
    ------
    InputError
        If the network of a run has no such thing.
    """
    if proba and codes:
        raise InputError("probabilities or codes: leave out one")
    if proba and not hasattr(model, "predict_proba"):
        kind = "factorization" if isinstance(model, NMF) else "regression"
        raise InputError(f"{path} is a {kind}: it has no probabilities; leave out proba")
    if codes and not hasattr(model, "transform"):
        raise InputError(f"{path} has no factors: it has no codes; leave out codes")
    if codes or isinstance(model, NMF):
        return model.transform
    return model.predict_proba if proba else model.predict


# ------------------------------------------------------------------------------------------ scripts

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
        The script's file; the config beside it, of the same name, is taken if the command line
        names none.
    about : str
        What --help says.
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
    """Say in the log and on the standard error how a job ended; return the exit code."""
    code, text = ending(error)
    if not text:
        text = "stopped; start it again to go on"
        level, event = "warning", "stopped"
    else:
        level, event = "error", "failed"
    with suppress(OSError, ValueError):  # the disk may be full, or the log closed over that
        log(event, level, error=type(error).__name__, message=text, exit_code=code)
    with suppress(OSError):
        print(f"{event}: {text}", file=sys.stderr, flush=True)
    return code
