"""The command line: ``dadmm fit | plan | resume | check | predict | export | show | ...``.

Exit codes: 0; 1 for a run that failed; 2 for bad usage or bad input; 75 if another driver is at
work on the run; 130 for Ctrl-C; 143 for SIGTERM.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import textwrap
from collections.abc import Mapping
from typing import Any

import click
from dask.utils import format_bytes
from rich.table import Table
from rich.text import Text

from dadmm import __version__
from dadmm.app.build import (
    make_estimator,
    method_of,
    parameter_digest,
    source_of,
    stored_config,
)
from dadmm.app.config import check_config, load_config
from dadmm.app.fit import placed, run_config, say_interrupted, say_next_steps, say_scores, say_where
from dadmm.app.process import BAD_INPUT, FAILED, ending, sigterm_interrupts, tidy_warnings
from dadmm.app.reading import reading_options, said
from dadmm.app.report.describe import history_rows, summary
from dadmm.app.schema import SCHEMA, TASKS, example, json_schema
from dadmm.app.terminal import err, out, plain_table, say, say_warning
from dadmm.cluster import connection
from dadmm.data.write import check_output, write
from dadmm.datasets import load_data
from dadmm.engine.live.dashboard import open_page
from dadmm.engine.session import Session
from dadmm.errors import InputError
from dadmm.estimators.load import load, resume, trained
from dadmm.networks.files import check_place, save
from dadmm.store.place import absolute

WHERE = "A profile, or the address or file of a scheduler, instead of the config's."


def main() -> None:
    """Run the command line; turn every error into one line.

    With ``DADMM_DEBUG`` set, an error that dadmm did not foresee keeps its traceback.
    """
    # Ctrl-C leaves tasks of distributed's event loop unfinished; users cannot act on that.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    try:
        with tidy_warnings(say_warning), sigterm_interrupts():
            code = commands(prog_name="dadmm", standalone_mode=False)
    except click.exceptions.Abort as error:  # click turns a KeyboardInterrupt into it
        stop = error.__cause__
        code, _ = ending(stop if isinstance(stop, KeyboardInterrupt) else KeyboardInterrupt())
    except click.ClickException as error:
        error.show()
        code = BAD_INPUT
    except (Exception, KeyboardInterrupt) as error:
        code, text = ending(error)
        if text:
            word = "failed" if code == FAILED else "error"
            err.print(Text.assemble((f"{word}:", "bold red"), f" {text}"))
    sys.exit(code or 0)


def _config_help() -> str:
    """Return the tables and keys of a config file, marked so that click does not wrap them."""
    lines = ["\b", "CONFIG may have (`dadmm config --example` says what they mean):"]
    for table, keys in SCHEMA.items():
        lines += textwrap.wrap(
            f"[{table}] {', '.join(keys)}", 76, initial_indent="  ", subsequent_indent="    "
        )
    return "\n".join(lines)


def _choices(name: str) -> list[str]:
    """Return the choices of a key of [model]."""
    return list(SCHEMA["model"][name].choices)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def commands() -> None:
    """Train residual neural networks by ADMM, as a dataflow on Dask."""


@commands.command(short_help="Train as a config file says.", epilog=_config_help())
@click.argument("config", type=click.Path(dir_okay=False), required=False)
@click.option("--data", metavar="PATH", help="A .csv or .parquet table, instead of the config's.")
@click.option("--target", metavar="COLUMN", help="Its column to predict; the last if left out.")
@click.option("--task", type=click.Choice(TASKS), help="What to learn; classification if left out.")
@click.option(
    "--categorical",
    type=click.Choice(_choices("categorical")),
    help="Treatment of text columns.",
)
@click.option("--missing", type=click.Choice(_choices("missing")), help="Treatment of empty cells.")
@click.option(
    "--run", "path", metavar="PATH", help="Folder or URL of the run, instead of the config's."
)
@click.option("--overwrite", is_flag=True, help="Replace the run that is there.")
@click.option("--cluster", "place", metavar="WHERE", help=WHERE)
@click.option(
    "--workers", type=click.IntRange(0), help="Worker processes, instead of the config's."
)
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@reading_options
def fit(
    config: str | None,
    data: str | None,
    target: str | None,
    task: str | None,
    categorical: str | None,
    missing: str | None,
    path: str | None,
    overwrite: bool,
    place: str | None,
    workers: int | None,
    quiet: bool,
    **reading: Any,
) -> None:
    """Train as CONFIG, a TOML file, says; keep data, state, history and network in --run.

    Without CONFIG: dadmm fit --data houses.csv --target price --task regression --run runs/houses

    Ctrl-C keeps the last whole iteration; `dadmm resume PATH` goes on from there.
    """
    if config is None and data is None:
        raise click.UsageError("Say what to train on: a CONFIG, or --data PATH.")
    table = load_config(config) if config is not None else {}
    if data is not None:
        table["data"] = {"x": data}
    table["data"] = {**table.get("data", {}), **said(reading)}
    if target is not None:
        table["data"]["y"] = target
    model = {"task": task, "categorical": categorical, "missing": missing}
    table["model"] = {**table.get("model", {}), **{k: v for k, v in model.items() if v is not None}}
    check_config(table, config or "the command line")
    path = path or table.get("run", {}).get("path")
    if path is None:
        raise click.UsageError(
            "Say where to keep the run: --run PATH, or path in the config's [run]."
        )
    if place is not None or workers is not None:
        table["cluster"] = placed(table.get("cluster", {}), place, workers)
    run_config(table, path, overwrite, quiet)


@commands.command(short_help="Forecast what a run will take, without starting it.")
@click.argument("config", type=click.Path(dir_okay=False), required=False)
@click.option("--workers", type=click.IntRange(1, 4096), help="Workers, instead of the config's.")
@click.option("--memory", metavar="SIZE", help="Memory of a worker, instead of the config's: 8GiB.")
@click.option("--rows", type=click.IntRange(1, 10**12), help="Rows, if the data are a sample.")
@click.option("--disk", metavar="RATE", help="How fast a worker reads and writes: 1GB/s.")
@click.option("--net", metavar="RATE", help="How fast a worker sends and receives: 10Gbit.")
@click.option("--latency", metavar="TIME", help="Time of a message, one way: 0.5ms.")
@click.option("--task", metavar="TIME", help="Time of the scheduler per task: 1ms.")
@click.option(
    "--stragglers",
    type=click.FloatRange(0, 2),
    default=0.1,
    show_default=True,
    help="Standard deviation of the logarithm of a visit's time.",
)
@click.option("--price", type=click.FloatRange(0, 1e9), help="Price of a worker's hour.")
@click.option("--html", "page", metavar="PATH", help="Also write the plan as one .html file.")
@click.option("--calibrate", is_flag=True, help="Measure this machine first: 4 minutes, idle.")
def plan(
    config: str | None,
    workers: int | None,
    memory: str | None,
    rows: int | None,
    disk: str | None,
    net: str | None,
    latency: str | None,
    task: str | None,
    stragglers: float,
    price: float | None,
    page: str | None,
    calibrate: bool,
) -> None:
    """Forecast what training by CONFIG will take: memory, disk, traffic, tasks and time.

    Nothing is trained.  Each worker counts as one process of the machine measured last
    (--calibrate); such a machine runs one worker per core.
    """
    from dadmm.app.planner.command import measure, planned

    if config is None and not calibrate:
        raise click.UsageError("Name a CONFIG, or measure this machine with --calibrate.")
    if calibrate:
        say("measured", measure())
    if config is None:
        return
    given = {"disk": disk, "net": net, "latency": latency, "task": task}
    found = planned(load_config(config), workers, memory, rows, given, stragglers, price)
    _show_plan(found)
    if page:
        from dadmm.app.planner.page import write_plan

        write_plan(found, page)
        say("page", page)


def _show_plan(found: Any) -> None:
    from dadmm.app.planner import words

    for name, value in (words.facts(found) | found.assumed).items():
        out.print(f"{name:<17}{value}")
    for header, rows in (
        (words.PHASES_HEADER, words.phase_rows(found.chosen)),
        (words.SCALING_HEADER, words.scaling_rows(found.scaling)),
    ):
        out.print()
        out.print(plain_table(header, rows))


@commands.command(name="resume", short_help="Go on with a run that was stopped.")
@click.argument("path", metavar="RUN")
@click.option("--max-iter", type=click.IntRange(1), help="A new limit on all iterations together.")
@click.option("--cluster", "place", metavar="WHERE", help=WHERE)
@click.option(
    "--workers", type=click.IntRange(0), help="Worker processes, instead of the config's."
)
@click.option("--force", is_flag=True, help="Take RUN from a driver that is known to be dead.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def resume_command(
    path: str,
    max_iter: int | None,
    place: str | None,
    workers: int | None,
    force: bool,
    quiet: bool,
) -> None:
    """Go on with RUN from its last committed iteration, to the same bits as without the stop.

    A finished run stays as it is, unless --max-iter asks for more iterations.  If bytes of the
    store are damaged, the run goes back to its last intact iteration and says so.

    One driver works on a run at a time.  This command takes over the lock of a dead driver: at once
    if the driver was a process of this machine, else after 5 minutes without a sign of life.
    --force takes the lock in any case; a driver that still lives stops at its next commit.
    """
    table = stored_config(path)
    stored, left = connection.of_a_store(table.get("cluster", {}))
    if left and place is None and workers is None:
        say_warning(f"{path}: {' and '.join(left)} of a stored [cluster] {connection.NOT_FOLLOWED}")
    with connection.connect(placed(stored, place, workers)) as client:
        say_where(open_page(client), path, quiet)
        try:
            estimator = resume(path, max_iter=max_iter, verbose=not quiet, force=force)
        except KeyboardInterrupt:
            say_interrupted(path)
            raise
    if not quiet:
        say_scores(estimator, _data_again(table))
        say_next_steps(path)


def _data_again(table: Mapping[str, Any]) -> Any:
    """Return the config's data for the scores; None if the config or its data are gone."""
    try:
        if not table:
            return None
        unsupervised = table.get("model", {}).get("task") == "factorization"
        return load_data(table["data"], supervised=not unsupervised)
    except InputError:
        return None


@commands.command(short_help="Verify every byte of a run.")
@click.argument("path", metavar="RUN")
@click.option("--cluster", "place", metavar="WHERE", help=WHERE)
@click.option("--workers", type=click.IntRange(0), help="Worker processes; 0 reads on threads.")
def check(path: str, place: str | None, workers: int | None) -> int:
    """Read all of RUN and compare it with its checksums; exit with 1 if anything is damaged."""
    session = Session.open(path)
    session.refuse_driver()
    with connection.connect({**placed({}, place, workers), "dashboard": -1}):
        found = session.examine()
    for line in found.damaged:
        err.print(line)
    say("checked", f"{found.arrays} arrays, {found.chunks} chunks")
    if found.left:
        say(
            "left over",
            f"{len(found.left)} files that belong to nothing: a run that was stopped leaves some",
        )
    say("damaged", f"{len(found.damaged)}" if found.damaged else "nothing")
    return 1 if found.damaged else 0


@commands.command(short_help="Predict for new rows.")
@click.argument("path", metavar="RUN")
@click.argument("source", metavar="INPUT")
@click.argument("target", metavar="OUTPUT")
@click.option("--proba", is_flag=True, help="Class probabilities, a column per class.")
@click.option("--codes", is_flag=True, help="Codes, a column per factor.")
@click.option("--overwrite", is_flag=True, help="Replace OUTPUT if it is there.")
@reading_options
def predict(
    path: str,
    source: str,
    target: str,
    proba: bool,
    codes: bool,
    overwrite: bool,
    **reading: Any,
) -> None:
    """Predict with the network of RUN for the rows of INPUT, into OUTPUT.

    A factorization predicts codes.

    INPUT is a path or URL that ends in .npy, .csv or .parquet (globs too), or a zarr array, data
    set or sparse matrix.  Tables are read as those of the training of RUN were, unless an option
    says otherwise.  OUTPUT ends in .npy, .csv, .parquet or .zarr; tables keep the column that names
    their rows.  Zarr and large tables go chunk by chunk, so neither they nor their predictions need
    fit into memory.
    """
    estimator = load(path)
    check_output(path, source, target, overwrite)
    how = method_of(estimator, path, proba, codes)
    predicted = how(source_of(path, source, said(reading)))
    write(predicted, target)
    if proba:
        say("columns", ", ".join(map(str, estimator.classes_)))
    rows = predicted.shape[0] if predicted.ndim < 3 else "all"
    say("written", f"{rows if isinstance(rows, int) else 'all'} rows -> {target}")


@commands.command(name="export", short_help="Write the network of a run for other programs.")
@click.argument("path", metavar="RUN")
@click.argument("target", metavar="FILE")
@click.option("--overwrite", is_flag=True, help="Replace FILE if it is there.")
def export_command(path: str, target: str, overwrite: bool) -> None:
    """Write the network of RUN, a run or a .safetensors file, into FILE.

    FILE ends in .onnx, or in .safetensors, which dadmm.load and `dadmm predict` read.  ONNX
    Runtime, if it is installed, checks an ONNX file on random rows; a file whose outputs differ
    from the network's is not written.
    """
    check_place(target, overwrite)
    agreement = save(load(path).network_, target, overwrite=overwrite)
    say("written", f"{format_bytes(os.path.getsize(absolute(target)))} -> {target}")
    if agreement is not None:
        say("checked", agreement)
    elif target.endswith(".onnx"):
        say("checked", "against nothing: pip install onnxruntime")


@commands.command(short_help="Show the state and the history of a run.")
@click.argument("path", metavar="RUN")
@click.option("--plot", "picture", metavar="PATH", help="Draw the convergence: .png, .pdf, .svg.")
@click.option("--html", "page", metavar="PATH", help="Write a report: one .html file.")
@click.option("--digest", is_flag=True, help="Print only a SHA-256 of the parameters.")
def show(path: str, picture: str | None, page: str | None, digest: bool) -> None:
    """Show what RUN is, how far it has come, and its history.

    The history has for each iteration: the Lagrangian ("objective"), the loss and the score of the
    network on the training data, the residual of the head's constraint, the norm of the
    Lagrangian's gradient, the length of the step, and the seconds.

    The report has the same with curves, the use of time and memory, the confusion matrix or the
    residuals, the config and the versions.
    """
    if digest:
        out.print(parameter_digest(load(path)))
        return
    session = Session.open(path)  # a network's file has no history
    estimator = trained(session)
    history = estimator.history_
    out.print(_summary(summary(estimator, session)))
    if history.sizes["iteration"]:
        out.print()
        header, *rows = history_rows(history, 12)
        out.print(plain_table(header, rows))
    if picture:
        from dadmm.app.report.plot import plot_history

        plot_history(history, picture)
        say("plot", picture)
    if page:
        from dadmm.app.report.page import write_report

        write_report(estimator, session, page)
        say("report", page)


def _summary(facts: Mapping[str, str]) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in facts.items():
        table.add_row(Text(name, style="bold"), value)
    return table


@commands.command(short_help="Print a config with every key, or check one.")
@click.argument("path", metavar="[FILE]", required=False, type=click.Path(dir_okay=False))
@click.option("--example", "wanted", flag_value="example", help="Print every key, as TOML.")
@click.option("--schema", "wanted", flag_value="schema", help="Print the JSON Schema, for editors.")
def config(path: str | None, wanted: str | None) -> None:
    """Check the config FILE, or print what one may have.

    Variables of the environment override keys of FILE: DADMM__MODEL__MAX_ITER=20 is max_iter = 20
    of [model].  A value is TOML, or else text, and is checked like FILE.
    """
    if (path is None) == (wanted is None):
        raise click.UsageError("Name a FILE to check, or use --example or --schema.")
    if wanted == "example":
        click.echo(example(), nl=False)
    elif wanted == "schema":
        click.echo(json.dumps(json_schema(), indent=2))
    else:
        table = load_config(str(path), needs=())
        make_estimator(table, "run").check_options()
        say("valid", path)


@commands.command(short_help="Train on digits beside scikit-learn, and show what happened.")
@click.option(
    "--run",
    "path",
    metavar="PATH",
    default="runs/demo",
    show_default=True,
    help="Where to keep it.",
)
@click.option(
    "--workers",
    type=click.IntRange(0),
    default=2,
    show_default=True,
    help="Worker processes; 0: threads.",
)
def demo(path: str, workers: int) -> None:
    """Train on scikit-learn's digits beside its MLPClassifier, and show what happened."""
    from dadmm.app.demo import run_demo

    run_demo(path, workers, out)


if __name__ == "__main__":
    main()
