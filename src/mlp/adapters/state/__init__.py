"""The door to the state database: the ledger of every model, in SQLite or PostgreSQL."""

from mlp.adapters.state.database import Conflict, StateDatabase, open_state

__all__ = ["Conflict", "StateDatabase", "open_state"]
