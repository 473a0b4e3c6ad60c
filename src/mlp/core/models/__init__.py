"""Versions of a model as data: the section `model`, gates, ledger, files of a package."""
