"""A lean runtime that turns photographs of people into portraits of people who do not exist.

Needs numpy, Pillow, tokenizers and one engine backend; never torch, tensorflow, diffusers or transformers.
"""

from .errors import AnonError
from .pipeline import Anonymizer
from .portrait import Portrait, Request
from .settings import Settings

__version__ = "0.2.0"

__all__ = ["AnonError", "Anonymizer", "Portrait", "Request", "Settings", "__version__"]
