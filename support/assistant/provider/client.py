"""Makes the HTTP client for the model's provider, the models, and the settings for a run of the Agents SDK.

"Both APIs" are OpenAI's Responses API and Chat Completions.
"""

import asyncio
from typing import Any
from weakref import WeakKeyDictionary

from agents import (
    ModelProvider,
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

# A client's connections belong to one event loop. So each event loop has its own client. The first part of
# each value is the pair of URL and API key with which the client was made.
_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[tuple[str, str], AsyncOpenAI]] = (
    WeakKeyDictionary()
)


def get_client() -> AsyncOpenAI:
    """Return the client of this event loop. Makes a new client if the provider's settings have changed."""
    base_url, api_key = conf.OPENAI_BASE_URL, conf.OPENAI_API_KEY
    loop = asyncio.get_running_loop()
    known_settings, known_client = _clients.get(loop, (None, None))
    if known_client is not None and known_settings == (base_url, api_key):
        return known_client
    new_client = AsyncOpenAI(
        base_url=base_url or None,
        api_key=api_key or "none",  # a local model needs no key, but the client requires one
        timeout=Timeout(READ_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS),
        # The client's own retries would wait as long as the provider asks, up to a minute. See _should_retry.
        max_retries=0,
    )
    _clients[loop] = (base_url, api_key), new_client
    return new_client


def make_model(
    name: str,
    user_id: str = "",
    earlier_count: int = 0,
    send_event: SendEvent | None = None,
    is_default: bool = False,
) -> LanguageModel:
    """Return a new model for one run. A model holds the state of the run's requests and of its answer.

    ``user_id``, ``earlier_count``, ``send_event``: see ``ModelRequests``. ``is_default``: see
    ``LanguageModel``.
    """
    model_class = ChatCompletionsModel if conf.SUPPORT_MODEL_API == "chat_completions" else ResponsesModel
    requests = ModelRequests((conf.OPENAI_BASE_URL, name), user_id, earlier_count, send_event)
    return model_class(name, get_client(), requests, is_default)


def make_settings() -> ModelSettings:
    # ``store`` is not set, so the provider's default applies: OpenAI keeps responses for a month. store=False
    # would break each answer in which a reasoning model calls a tool. The request after the tool call refers
    # to the reasoning, and OpenAI would not have stored the reasoning. An operator can switch off the storage
    # in the settings of the project at OpenAI.
    return ModelSettings(retry=ModelRetrySettings(max_retries=RETRIES, policy=_should_retry))


def make_run_config(models: ModelProvider | None = None) -> RunConfig:
    """Return the settings of a run. ``models``: for agents without a model object of their own."""
    options: dict[str, Any] = {}
    if models:
        options = {"model_provider": models, "model_settings": make_settings()}
    return RunConfig(
        **options,
        # Tracing sends every prompt to OpenAI, even if OPENAI_BASE_URL is another provider's.
        tracing_disabled=not conf.SUPPORT_TRACING,
        tool_not_found_behavior="return_error_to_model",  # the model may then call a tool that exists
    )


def _should_retry(context: RetryPolicyContext) -> bool:
    """The Agents SDK asks this only if the request failed before its first event."""
    error = context.normalized
    if error.is_timeout:
        return False  # the user has waited long enough
    if error.retry_after is not None and error.retry_after > MAX_RETRY_DELAY_SECONDS:
        return False
    status = error.status_code or 0
    return error.is_network_error or status in {408, 409, 429} or status >= 500
