"""Three trivial steps in ZenML, for `pipeline_overhead.py`."""

from zenml import pipeline, step


@step
def first() -> int:
    """Make a value."""
    return 1


@step
def second(value: int) -> int:
    """Pass it on."""
    return value + 1


@step
def third(value: int) -> int:
    """Have it."""
    return value + 1


@pipeline(enable_cache=False)
def trivial() -> None:
    """One value handed from step to step."""
    third(second(first()))


if __name__ == "__main__":
    trivial()
