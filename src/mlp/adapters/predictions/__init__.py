"""The log of predictions: journals written beside the server, packed into Parquet, read by DuckDB.

`journal` writes, `pack` turns journals into Parquet, `reading` answers questions over both.
"""
