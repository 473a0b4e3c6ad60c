"""SIGTERM during training: a checkpoint of the step that was reached, then the end.

That is how a pod's deletion, a preemption and `kubectl drain` announce themselves; some seconds
later comes SIGKILL. Lightning's own handler makes a collective call from within the signal handler,
which only those ranks do that got the signal: with several ranks it hangs or breaks training. Ours
notes the signal; the ranks agree between two batches, and all stop at the same one.
"""

import contextlib
import os
import signal
import threading
import time
from typing import Any

import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.utilities.exceptions import SIGTERMException
from pytorch_lightning.utilities.rank_zero import rank_zero_info, rank_zero_warn

from mlp.adapters.trainer.checkpoints import INTERRUPTED, writing
from mlp.core.errors import MlpError

EXIT_CODE = 128 + signal.SIGTERM

# The ranks ask each other about once in so many seconds, and at least every so many batches: a
# collective call at each batch would cost.
_ASK_S = 1.0
_ASK_BATCHES = 50


class SaveOnSigterm(Checkpoint):  # type: ignore[misc]
    """Ends training on SIGTERM with a checkpoint and exit code 143.

    It is a Checkpoint, so that Lightning runs it after all others: they have seen the batch.
    """

    def __init__(self) -> None:
        super().__init__()
        self._asked_to_end = self._saved_in_validation = False
        self._before: Any = signal.SIG_DFL
        self._start_counting()

    def _start_counting(self) -> None:
        self._interval = self._left = 1
        self._since = time.monotonic()

    # --- the signal -------------------------------------------------------------------------

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Remember what SIGTERM would do otherwise."""
        self._before = signal.getsignal(signal.SIGTERM)

    def on_sanity_check_start(self, trainer: Any, pl_module: Any) -> None:
        """Nothing is trained yet."""
        _handle(self._end_at_once)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """`validate` has nothing to save; within `fit` a signal is noted still."""
        if trainer.state.fn != "fit":
            _handle(self._end_at_once)

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        """`test` has nothing to save."""
        _handle(self._end_at_once)

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        """`predict` has nothing to save."""
        _handle(self._end_at_once)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """From now on there is something to save."""
        self._asked_to_end = self._saved_in_validation = False
        self._start_counting()
        _handle(self._note)

    def _note(self, number: int, frame: Any) -> None:
        self._asked_to_end = True
        if callable(self._before):
            self._before(number, frame)

    def _end_at_once(self, number: int, frame: Any) -> None:
        """There is nothing to save: what would have happened without Lightning's handler."""
        signal.signal(signal.SIGTERM, self._before or signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)

    # --- the end ----------------------------------------------------------------------------

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """End where all ranks agree to, after a step of the optimizer."""
        # Between two steps of the optimizer gradients would be lost.
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if stepped and self._all_end(trainer):
            _end(trainer)

    def on_validation_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        """The weights are those of the last step: rank 0 needs nobody's agreement to save."""
        if not self._asked_to_end or trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        if trainer.world_size == 1:
            _end(trainer)
        elif not self._saved_in_validation:
            self._saved_in_validation = True  # and may be killed before the next step
            _save(trainer)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Ask at the next step: validation may have taken long."""
        self._left = 1

    def _all_end(self, trainer: Any) -> bool:
        """Whether any rank got the signal, asked at the same batches on all ranks."""
        if trainer.world_size == 1:
            return self._asked_to_end
        self._left -= 1
        if self._left > 0:
            return False
        now = time.monotonic()
        batches = _ASK_S * self._interval / max(now - self._since, 1e-6)
        mine = torch.tensor(
            [float(self._asked_to_end), min(batches, _ASK_BATCHES)],
            device=trainer.strategy.root_device,
        )
        try:
            asked, interval = trainer.strategy.reduce(mine, reduce_op="max").tolist()
        except RuntimeError:
            if self._asked_to_end:  # as the rank that is gone was, perhaps
                return True
            raise
        self._interval = self._left = max(1, int(interval))
        self._since = now
        return bool(asked)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Save, where it is our own end that goes up through Lightning's loops."""
        if not isinstance(exception, SIGTERMException):
            return
        exception.code = EXIT_CODE  # Lightning's own would be 0, as if all were done
        if trainer.state.fn != "fit":
            return
        _save(trainer)
        with contextlib.suppress(RuntimeError):  # a rank that is gone
            trainer.strategy.barrier()  # who ends first has the others killed: rank 0 writes


def _handle(handler: Any) -> None:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _end(trainer: Any) -> None:
    """Let Lightning finish the batch, its logging too, and stop there as it does on SIGTERM."""
    trainer._signal_connector.received_sigterm = True


def _save(trainer: Any) -> None:
    """What `Trainer.save_checkpoint` does, without waiting for other ranks afterwards."""
    path = f"{trainer.fit_checkpoints}/{INTERRUPTED}"
    try:
        checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
        with writing(path):
            trainer.strategy.save_checkpoint(checkpoint, path)  # only rank 0 writes
    except (OSError, RuntimeError, MlpError) as e:  # a full disk
        rank_zero_warn(f"asked to end (SIGTERM), but step {trainer.global_step} is not saved: {e}")
    else:
        rank_zero_info(f"asked to end (SIGTERM): step {trainer.global_step} is in {path}")
