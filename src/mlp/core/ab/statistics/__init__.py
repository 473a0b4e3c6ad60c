"""The statistics of A/B tests: pure functions over numpy arrays.

Everything that a verdict compares is an estimate for each arm with the covariance of the two
(`estimates.Pair`); `sequential` and `fixed` test a contrast of such a pair.
"""
