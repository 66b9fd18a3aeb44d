"""Configs for the command line, with their data in a table."""

import numpy as np

X = np.random.default_rng(0).normal(size=(40, 3)).round(3)
LABELS = np.array(["cat", "dog"])[(X[:, 0] > 0).astype(int)]

CONFIG = """
[data]
x = "{folder}/table.csv"
test_fraction = 0.25
[solver]
{solver}
[model]
task = "{task}"
hidden_layer_sizes = [8]
max_iter = {max_iter}
random_state = {seed}
chunks = 15
"""


RELAXED = 'name = "relaxed"'
BLOCK = 'name = "block"\nbatch_size = 8'
# A schedule of the learning rate would be stretched to a new limit.
CONSTANT = f'{BLOCK}\nlearning_rate_schedule = "constant"'


def configure(
    folder, name="config.toml", task="classification", max_iter=3, seed=0, solver=RELAXED
):
    """Write a config and its data, and return the config's path."""
    target = LABELS if task == "classification" else X[:, 1]
    rows = [",".join(map(str, [*x, y])) for x, y in zip(X, target, strict=True)]
    (folder / "table.csv").write_text("\n".join(["a,b,c,kind", *rows]))
    path = folder / name
    path.write_text(
        CONFIG.format(folder=folder, task=task, max_iter=max_iter, seed=seed, solver=solver)
    )
    return path
