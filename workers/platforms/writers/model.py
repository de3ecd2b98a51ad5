"""A language model as the writer, over any endpoint that speaks OpenAI's protocol."""

import re
from collections.abc import Collection
from random import Random

import httpx2
import openai
from pydantic import BaseModel, SecretStr, ValidationError

from workers.platforms.connection import proxy_for
from workers.platforms.exchange import ExchangeError, Request, exchange
from workers.platforms.post_text import PostTextError, check, urls
from workers.platforms.writers.writer import Brief, Draft, DraftRefused, WriterUnavailable, likeness

DEADLINE_S = 60.0
REMEMBERED = 20  # recent texts shown to the model; more cost tokens and don't help
MENTION = re.compile(r"[@\uff20]\w")
SCHEME = re.compile(r"\w://|www\.", re.IGNORECASE)
QUOTES = ('""', "''", "\u201c\u201d", "\u2018\u2019", "\u00ab\u00bb", "\u201e\u201c", "``", "**")
# Headers that the wire writes itself.
OURS = frozenset({"host", "connection", "accept-encoding", "content-length", "transfer-encoding"})
TASK = (
    "Write one original post for X about the topic that the user names. At most 240 characters, in the "
    "topic's language, friendly and neutral, no link, no @mention, no cashtag, at most one hashtag. "
    "Don't claim news or numbers. Answer with the post's text only. It must differ from these:\n"
)


class ModelWriter:
    """Asks the model once a draft, and trusts nothing that it answers.

    Args:
        base_url: The endpoint, such as `https://api.openai.com/v1`.
        api_key: The endpoint's key; None where it wants none.
        model: The model's name there.
        deadline_s: Seconds for a whole call.
        allow_links: Whether a draft may hold what X makes a link of.
        allow_mentions: Whether it may hold an @mention.
    """

    def __init__(
        self,
        base_url: str,
        api_key: SecretStr | None,
        model: str,
        *,
        deadline_s: float = DEADLINE_S,
        allow_links: bool = False,
        allow_mentions: bool = False,
    ) -> None:
        self.model = model
        self._client = openai.OpenAI(
            base_url=base_url,
            api_key=api_key.get_secret_value() if api_key else "none",
            max_retries=0,
            http_client=httpx2.Client(
                transport=_Transport(deadline_s), follow_redirects=False, trust_env=False
            ),
        )
        self._allow_links = allow_links
        self._allow_mentions = allow_mentions

    def write(self, brief: Brief) -> Draft:
        """A draft by the model; raises `WriterUnavailable`, `DraftRefused`."""
        if not brief.topics:
            raise DraftRefused("the brief has no topic")
        topic = Random(brief.seed).choice(brief.topics)  # noqa: S311  chooses a topic, no secret
        text = self._ask(topic, brief)
        self.accept(text, brief.avoid)
        return Draft(text=text, writer="model", topic=topic, detail={"model": self.model})

    def _ask(self, topic: str, brief: Brief) -> str:
        recent = "\n".join(f"- {text}" for text in sorted(brief.avoid)[:REMEMBERED])
        return self.complete(TASK + recent, f"Topic: {topic}\nIt appears on {brief.at:%A %d %B %Y}.")

    def complete(self, task: str, data: str) -> str:
        """What the model makes of `data`, whose words are no orders; raises `WriterError`."""
        try:
            answer = self._client.chat.completions.with_raw_response.create(
                model=self.model,
                messages=[{"role": "system", "content": task}, {"role": "user", "content": data}],
            )
            choice = _Completion.model_validate_json(answer.http_response.content).choices[0]
        except openai.APIStatusError as error:
            # Its message may hold the key's end, so the status has to do.
            raise WriterUnavailable(f"{self.model}: the endpoint answered {error.status_code}") from None
        except openai.OpenAIError as error:
            said = str(error.__cause__ or type(error).__name__)
            raise WriterUnavailable(f"{self.model}: no answer: {said}") from None
        except (ValidationError, IndexError):
            raise WriterUnavailable(f"{self.model}: the answer is no chat completion") from None
        if choice.finish_reason == "length":
            raise DraftRefused(f"{self.model}: the text was cut off")
        return _unquoted(choice.message.content)

    def accept(self, text: str, avoid: Collection[str]) -> None:
        """Raise `DraftRefused` unless the text can be posted and isn't among those to avoid."""
        try:
            check(text)
        except PostTextError as error:
            raise DraftRefused(f"{self.model}: {error}") from None
        if not self._allow_links and (urls(text) or SCHEME.search(text)):
            raise DraftRefused(f"{self.model}: the text has a link")
        if not self._allow_mentions and MENTION.search(text):
            raise DraftRefused(f"{self.model}: the text mentions an account")
        if likeness(text) in {likeness(other) for other in avoid}:
            raise DraftRefused(f"{self.model}: the text is a recent one")


class _Message(BaseModel):
    content: str


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Completion(BaseModel):
    choices: tuple[_Choice, ...]


class _Transport(httpx2.BaseTransport):
    """Carries the library's requests over our wire: one deadline, one cap, no retry."""

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        url = str(request.url)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in OURS}
        try:
            answer = exchange(
                Request(method=request.method, url=url, headers=headers, body=request.read()),
                deadline_s=self._deadline_s,
                proxy=proxy_for(url),
            )
        except ExchangeError as error:
            raise httpx2.TransportError(error.reason, request=request) from error
        if answer.fault:
            raise httpx2.TransportError(answer.fault, request=request)
        return httpx2.Response(answer.status, content=answer.body)


def _unquoted(text: str) -> str:
    """`text` without the quotation marks and fences that models like to put around an answer."""
    text = text.strip().removeprefix("```").removesuffix("```").strip()
    while len(text) > 1 and text[0] + text[-1] in QUOTES:
        text = text[1:-1].strip()
    return text
