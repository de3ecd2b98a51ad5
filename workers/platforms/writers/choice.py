"""Choice: who writes an account's texts. A model with the built-in writer behind it, or that one alone.

The configuration has a model where it names an endpoint, or a key for OpenAI's own.
"""

from typing import TYPE_CHECKING, Protocol, TypeVar

from pydantic import HttpUrl, SecretStr

from workers.platforms.writers.answers import AnswerBrief, BuiltinAnswerer
from workers.platforms.writers.builtin import BuiltinWriter
from workers.platforms.writers.fallback import FallbackWriter
from workers.platforms.writers.model_answers import ModelAnswerer
from workers.platforms.writers.responses import BuiltinResponder, ModelResponder, ResponseBrief
from workers.platforms.writers.writer import Brief, Writer

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.platforms.writers.model import ModelWriter  # its library loads slowly

BriefT = TypeVar("BriefT")
OPENAI = "https://api.openai.com/v1"


class ModelConfig(Protocol):
    """What says whether there is a model, and where."""

    @property
    def openai_base_url(self) -> HttpUrl | None:
        """The endpoint; None is OpenAI's own."""
        ...

    @property
    def openai_api_key(self) -> SecretStr | None:
        """The endpoint's key; None where it wants none."""
        ...

    @property
    def openai_model(self) -> str:
        """The model's name there."""
        ...


def post_writer(config: ModelConfig) -> Writer[Brief]:
    """Who writes posts."""
    return _choose(config, lambda model: model, BuiltinWriter())


def responder(config: ModelConfig) -> Writer[ResponseBrief]:
    """Who writes replies to posts, and comments above quoted ones."""
    return _choose(config, ModelResponder, BuiltinResponder())


def answerer(config: ModelConfig) -> Writer[AnswerBrief]:
    """Who answers those who called the account."""
    return _choose(config, ModelAnswerer, BuiltinAnswerer())


def _choose(
    config: ModelConfig, by_model: "Callable[[ModelWriter], Writer[BriefT]]", builtin: Writer[BriefT]
) -> Writer[BriefT]:
    if config.openai_base_url is None and config.openai_api_key is None:
        return builtin
    from workers.platforms.writers.model import ModelWriter  # noqa: PLC0415  its library loads slowly

    url = str(config.openai_base_url or OPENAI)
    model = ModelWriter(url, config.openai_api_key, config.openai_model)
    return FallbackWriter(by_model(model), builtin)
