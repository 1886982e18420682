"""A lean runtime that turns photos of people into portraits of people who do not exist.

It needs numpy, Pillow, tokenizers and one engine backend, and never torch, tensorflow, diffusers or transformers.
"""

from .anonymizer import Anonymizer
from .errors import AnonError
from .settings import Settings
from .types import Portrait, Request

__version__ = "0.3.0"

__all__ = ["AnonError", "Anonymizer", "Portrait", "Request", "Settings", "__version__"]
