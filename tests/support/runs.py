"""Runs that are stopped, and what two that end alike have in common."""


def bits(estimator):
    """Return the bits of a network's parameters."""
    return {name: array.tobytes() for name, array in estimator.network_.params.items()}


def all_bits(estimator):
    """Return the bits of everything that training computed, but the clock."""
    history = estimator.history_.drop_vars("seconds", errors="ignore")
    rows = {str(name): column.values.tobytes() for name, column in history.items()}
    final = {name: history.attrs.get(name) for name in ("status", "forward_loss", "train_score")}
    return bits(estimator), rows, final


def at(iteration, do):
    """Return a callback that does something after an iteration."""

    def callback(k, row):
        if k == iteration:
            do()

    return callback


def stop_at(iteration, error=KeyboardInterrupt):
    """Return a callback that raises an error after an iteration."""

    def stop():
        raise error

    return at(iteration, stop)
