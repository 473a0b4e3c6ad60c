"""Three trivial steps in Metaflow, for `pipeline_overhead.py`."""

from metaflow import FlowSpec, step


class Trivial(FlowSpec):
    """One value handed from step to step."""

    @step
    def start(self):
        """Make it."""
        self.value = 1
        self.next(self.middle)

    @step
    def middle(self):
        """Pass it on."""
        self.value += 1
        self.next(self.end)

    @step
    def end(self):
        """Have it."""
        self.value += 1


if __name__ == "__main__":
    Trivial()
