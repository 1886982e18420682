"""Steps of a folder run over batches, in which one photo cannot make the others fail."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ..errors import AnonError, BackendError, PhotoError

T = TypeVar("T")
MAX_ENGINE_FAILURES = 10  # photos in a row on which an engine fails, before the run ends


class Steps:
    """The steps of a run, which know how often an engine has failed in a row.

    Args:
        batch_size: the number of photos that are processed together.
    """

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._failures: Counter[str] = Counter()  # in a row, by stage

    def each(
        self,
        stage: str,
        items: Sequence[Any],
        work: Callable[[Sequence[Any]], Sequence[T]],
        *,
        steady: bool = False,
    ) -> Sequence[T | Exception]:
        """Process a batch; if this fails, process its items one by one, so that one item cannot make the others fail.

        Libraries add numbers in another order if a batch holds only one item. This changes last digits, and sometimes a
        byte of the image. If batches hold more than one item, a single item is therefore processed twice in one batch,
        so that its result is the same as in a larger batch, unless the work is steady: then no result depends on a
        batch.

        Args:
            stage: the name of the step.
            items: the batch.
            work: the step.
            steady: whether no result depends on the batch.

        Returns:
            The result of each item, or its error.

        Raises:
            AnonError: the error does not concern a photo or an engine, or an engine has failed too often in a row.
        """
        alone = len(items) == 1 and self._batch_size > 1 and not steady
        try:
            results = work([*items, *items] if alone else items)[: len(items)] if items else []
        except Exception as error:
            if isinstance(error, AnonError) and not isinstance(error, PhotoError | BackendError):
                raise
            if len(items) > 1:
                return [self.each(stage, [item], work, steady=steady)[0] for item in items]
            self._failures[stage] += isinstance(error, BackendError)
            if self._failures[stage] >= MAX_ENGINE_FAILURES:
                raise
            return [error]
        del self._failures[stage]
        return results
