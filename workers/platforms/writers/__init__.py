"""Who writes a post: a language model, the built-in writer, or the first with the second behind it.

`ModelWriter` is imported from `workers.platforms.writers.model`: its library takes a second to load,
which a fleet without a model needn't wait for.
"""

from workers.platforms.writers.builtin import BuiltinWriter
from workers.platforms.writers.fallback import FallbackWriter, with_fallback
from workers.platforms.writers.writer import (
    Brief,
    Draft,
    DraftRefused,
    Writer,
    WriterError,
    WriterExhausted,
    WriterUnavailable,
)

__all__ = [
    "Brief",
    "BuiltinWriter",
    "Draft",
    "DraftRefused",
    "FallbackWriter",
    "Writer",
    "WriterError",
    "WriterExhausted",
    "WriterUnavailable",
    "with_fallback",
]
