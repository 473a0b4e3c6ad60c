"""When a challenger is taken out."""

from hypothesis import given
from hypothesis import strategies as st

from mlp.core.serving.challenger_failures import ENDS, TROUBLES, WINDOW, WITHIN_S, Failures


@given(st.lists(st.booleans(), max_size=3 * WINDOW))
def test_it_may_fail_now_and_then_but_not_often_of_late(answers: list[bool]) -> None:
    failures = Failures()
    for position, good in enumerate(answers):
        lately = answers[max(0, position + 1 - WINDOW) : position + 1]
        if good:
            failures.used()
        else:
            out = failures.unused(f"trouble {position}")
            assert (out is not None) == (lately.count(False) >= TROUBLES)
            assert failures.evidence["troubles"][-1] == f"trouble {position}"
            assert len(failures.evidence["troubles"]) == lately.count(False)


def test_its_process_may_end_again_once_some_time_has_passed() -> None:
    failures = Failures()
    assert ENDS == 2
    assert failures.ended("no memory", 0.0) is None
    assert failures.ended("no memory", WITHIN_S) is None
    out = failures.ended("a crash", WITHIN_S + 1)
    assert out == "its process ended 2 times: a crash"
    assert failures.evidence["ended"] == ["no memory", "a crash"]
