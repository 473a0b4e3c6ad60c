"""The door to archives: the code as one file that is the same for the same content, and back."""

from mlp.adapters.bundle.making import Bundle, make
from mlp.adapters.bundle.unpacking import unpack

__all__ = ["Bundle", "make", "unpack"]
