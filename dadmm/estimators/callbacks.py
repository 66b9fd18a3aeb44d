"""What scikit-learn's own callbacks (`sklearn.callback`, from version 1.9 on) are told of a fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["CallbackSupportMixin", "FitTasks", "with_callbacks"]

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # an older scikit-learn, which has none to set

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Nothing: `set_callbacks` is not there."""

    def with_callbacks(method: Any) -> Any:
        """Return the method as it is."""
        return method


class FitTasks:
    """A fit as a task of scikit-learn's callbacks, and its iterations as the tasks within it.

    Parameters
    ----------
    estimator : estimator
        Being fitted; without callbacks, set or handed down, nothing happens.
    given : mapping
        The "X", "y" and "metadata" of the caller.
    most : int
        Most iterations.
    """

    def __init__(self, estimator: Any, given: Mapping[str, Any], most: int) -> None:
        self.given = {"estimator": estimator, **given}
        self.fit: Any = None
        self.iteration: Any = None
        if hasattr(estimator, "_init_callback_context"):
            self.fit = estimator._init_callback_context(max_subtasks=most)
            self.fit.call_on_fit_task_begin(**self.given)

    def begin(self) -> None:
        """Tell of an iteration that begins."""
        if self.fit is not None:
            self.iteration = self.fit.subcontext(task_name="iteration")
            self.iteration.call_on_fit_task_begin(**self.given)

    def end(self, fitted: Callable[[], dict[str, Any]]) -> bool:
        """Tell of an iteration that is done; return whether a callback wants it to be the last.

        `fitted` forms the attributes that prediction needs, if anybody wants them.
        """
        if self.iteration is None:
            return False
        told = {**self.given, "reconstruction_attributes": fitted}
        return bool(self.iteration.call_on_fit_task_end(**told))

    def finish(self, fitted: Callable[[], dict[str, Any]]) -> None:
        """Tell of the fit that is done."""
        if self.fit is not None:
            self.fit.call_on_fit_task_end(**self.given, reconstruction_attributes=fitted)
