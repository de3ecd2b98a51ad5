"""Who writes a text: a language model, the built-in writer, or the first with the second behind it.

Posts, responses to posts and answers to mentions each have a brief of their own; `choice` says who writes.

`ModelWriter` is imported from `workers.platforms.writers.model`: its library takes a second to load,
which a fleet without a model needn't wait for.
"""

from workers.platforms.writers.builtin import BuiltinWriter
from workers.platforms.writers.fallback import FallbackWriter
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
]
