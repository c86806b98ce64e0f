"""Connects to the model's provider: the HTTP client, the models of both APIs, and the settings of a run."""

import asyncio
from weakref import WeakKeyDictionary

from agents import (
    ModelRetrySettings,
    ModelSettings,
    RetryPolicyContext,
    RunConfig,
)
from openai import AsyncOpenAI, Timeout

from support.assistant.provider.language_models import ChatCompletionsModel, LanguageModel, ResponsesModel
from support.assistant.provider.simpler_requests import RETRIES, ModelRequests, SendEvent
from support.conf import conf

READ_TIMEOUT_SECONDS = 120  # some models think for a minute before the first word
CONNECT_TIMEOUT_SECONDS = 5
MAX_RETRY_DELAY_SECONDS = 2  # the user is waiting

# A client's connections belong to one event loop. So there is one client for each loop.
_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[tuple[str, str], AsyncOpenAI]] = (
    WeakKeyDictionary()
)


def get_client() -> AsyncOpenAI:
    """The client of this event loop. It is made anew if the settings of the provider have changed."""
    base_url, api_key = conf.OPENAI_BASE_URL, conf.OPENAI_API_KEY
    loop = asyncio.get_running_loop()
    known_settings, known_client = _clients.get(loop, (None, None))
    if known_client is not None and known_settings == (base_url, api_key):
        return known_client
    new_client = AsyncOpenAI(
        base_url=base_url or None,
        api_key=api_key or "none",  # a local model needs no key, but the client requires one
        timeout=Timeout(READ_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS),
        max_retries=0,  # the client's own retries would wait for up to a minute if the provider asks for it
    )
    _clients[loop] = (base_url, api_key), new_client
    return new_client


def make_model(
    name: str, user_id: str = "", earlier_count: int = 0, send_event: SendEvent | None = None
) -> LanguageModel:
    """A new model for each run, because a model holds the state of its run's requests and answer.

    ``user_id``, ``earlier_count``, ``send_event``: see ``ModelRequests``.
    """
    model_class = ChatCompletionsModel if conf.SUPPORT_MODEL_API == "chat_completions" else ResponsesModel
    requests = ModelRequests((conf.OPENAI_BASE_URL, name), user_id, earlier_count, send_event)
    return model_class(name, get_client(), requests)


def make_settings() -> ModelSettings:
    # ``store`` has the provider's default. OpenAI then keeps responses for a month. store=False would prevent
    # that, but would break each answer in which a reasoning model calls a tool: the next request refers to
    # the reasoning, which OpenAI would not have stored. Data retention is switched off in OpenAI's project.
    return ModelSettings(retry=ModelRetrySettings(max_retries=RETRIES, policy=_should_retry))


def make_run_config() -> RunConfig:
    return RunConfig(
        # Tracing sends every prompt to OpenAI, whatever OPENAI_BASE_URL says.
        tracing_disabled=not conf.SUPPORT_TRACING,
        tool_not_found_behavior="return_error_to_model",  # the model may then call a tool that exists
    )


def _should_retry(context: RetryPolicyContext) -> bool:
    """The SDK calls this only if the request failed before its first event."""
    error = context.normalized
    if error.is_timeout:
        return False  # the user has waited long enough
    if error.retry_after is not None and error.retry_after > MAX_RETRY_DELAY_SECONDS:
        return False
    status = error.status_code or 0
    return error.is_network_error or status in {408, 409, 429} or status >= 500
