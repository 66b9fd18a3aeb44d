"""Hooks that report a fit to scikit-learn's callbacks (`sklearn.callback`, from version 1.9 on)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["CallbackSupportMixin", "FitTasks", "with_callbacks"]

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # an older scikit-learn has no callbacks

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stand in for scikit-learn's mixin, without `set_callbacks`."""

    def with_callbacks(method: Any) -> Any:
        """Return the method as it is."""
        return method


class FitTasks:
    """A fit as a task of scikit-learn's callbacks, and its iterations as the tasks within it.

    Parameters
    ----------
    estimator : estimator
        The estimator being fitted; nothing happens if it has no callbacks.
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
        """Report that an iteration begins."""
        if self.fit is not None:
            self.iteration = self.fit.subcontext(task_name="iteration")
            self.iteration.call_on_fit_task_begin(**self.given)

    def end(self, fitted: Callable[[], dict[str, Any]]) -> bool:
        """Report that an iteration is done; return whether a callback asks to stop.

        `fitted` makes the attributes that prediction needs, for a callback that asks for them.
        """
        if self.iteration is None:
            return False
        told = {**self.given, "reconstruction_attributes": fitted}
        return bool(self.iteration.call_on_fit_task_end(**told))

    def finish(self, fitted: Callable[[], dict[str, Any]]) -> None:
        """Report that the fit is done."""
        if self.fit is not None:
            self.fit.call_on_fit_task_end(**self.given, reconstruction_attributes=fitted)
