"""Several processes that train one model: who writes, and how they come to one decision."""

import tensorflow as tf


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Tells whether this process is the one that writes: the only one, `chief`, or the first worker."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return True
    resolver = strategy.cluster_resolver
    return resolver.task_type == "chief" or (
        resolver.task_type == "worker" and resolver.task_id == 0 and "chief" not in resolver.cluster_spec().jobs
    )


class Workers:
    """The processes of a strategy, which must all do the same next; one process alone just does what it wants."""

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        """Asks nobody yet."""
        self._strategy = strategy
        self.several = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        self.is_chief = is_chief(strategy)

        @tf.autograph.experimental.do_not_convert
        def add(own: tf.Tensor) -> tf.Tensor:
            return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(tf.identity, args=(own,)), axis=None)

        self._add = tf.function(add, input_signature=[tf.TensorSpec([3])], autograph=False)

    def agree(self, save: bool, leave: bool, steps: int) -> tuple[bool, bool, int]:
        """Returns what all workers do next; each waits here for all others.

        Args:
            save: whether this worker's clock says that a checkpoint is due: the chief's counts.
            leave: whether this worker is about to be taken away: anybody's counts.
            steps: of the next call: the chief's count.
        """
        if not self.several:
            return save, leave, steps
        own = [float(save and self.is_chief), float(leave), float(steps if self.is_chief else 0)]
        added = self._add(tf.constant(own)).numpy().tolist()
        local_replicas = len(self._strategy.extended.worker_devices)
        return added[0] > 0, added[1] > 0, round(added[2] / local_replicas)

    def wait(self) -> None:
        """Returns when all workers have come here."""
        self.agree(False, False, 0)
