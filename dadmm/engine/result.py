"""The network and the scaling of a run, from and to the store."""

from __future__ import annotations

from collections.abc import Mapping

from dadmm.engine.plan import Plan
from dadmm.errors import StoreError
from dadmm.networks.form import Form
from dadmm.networks.network import Network
from dadmm.networks.scaling import Scaling
from dadmm.networks.target import Target, labels_from_json
from dadmm.numerics.types import Array
from dadmm.store import Run


def load_network(plan: Plan, generation: int | None = None) -> Network:
    """Return the finished network; before the end that of a generation, by default the last.

    Raises
    ------
    StoreError
        If the stored parameters do not fit the run's config.
    """
    run, solver, problem = plan.run, plan.solver, plan.problem
    params: dict[str, Array] = {}
    layout, scaling = plan.layout, load_scaling(run)
    model = layout.network
    record = run.committed() or {}
    if record.get("final"):
        group = f"network/{record['network']}"
        params = {name: run.blocks.get(f"{group}/{name}") for name in model.shapes}
    else:
        generation = record["generation"] if generation is None else generation
        for layer, names in layout.exported.items():
            stored = run.load_params(generation, names)
            try:
                params |= solver.export(problem, layer, stored)
            except (ValueError, IndexError, KeyError) as error:
                raise StoreError(f"{run.url}: its parameters do not fit its config") from error
    found = {name: array.shape for name, array in params.items()}
    ends = (len(scaling["x"].centre), len(scaling["y"].centre))
    wanted = (model.widths[0], 1 if problem.classes else model.widths[-1])
    if found != model.shapes or ends != wanted:
        raise StoreError(f"{run.url}: its parameters do not fit its config")
    classes = run.attributes["classes"]
    return Network(
        model,
        params,
        scaling["x"],
        None if problem.classes else scaling["y"],
        target=Target(
            problem.loss,
            None if classes is None else labels_from_json(classes),
            bool(run.attributes["flat"]),
        ),
        form=Form.from_json(run.attributes["inputs"]),
    )


def load_scaling(run: Run) -> dict[str, Scaling]:
    """Return how inputs ("x") and targets ("y") are scaled."""
    get = run.blocks.get
    return {
        which: Scaling(get(f"scaling/{which}_centre"), get(f"scaling/{which}_scale"))
        for which in "xy"
    }


def save_scaling(run: Run, scaling: Mapping[str, Scaling]) -> None:
    """Store how inputs ("x") and targets ("y") are scaled."""
    for which, affine in scaling.items():
        dim = ("feature" if which == "x" else "target",)
        run.blocks.put(f"scaling/{which}_centre", affine.centre, dim)
        run.blocks.put(f"scaling/{which}_scale", affine.scale, dim)
    run.blocks.settle("scaling")
