"""Where the models are: one client, two APIs."""

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
from support.assistant.provider.requests import RETRIES, ModelRequests, SendEvent
from support.conf import conf

PATIENCE_SECONDS = 120  # with a model that says nothing; some think for a minute before the first word
CONNECT_SECONDS = 5
WORTH_WAITING_SECONDS = 2  # somebody is looking at the screen meanwhile

# A client keeps its connections in the event loop that made them, so there is one for each loop.
_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[tuple[str, str], AsyncOpenAI]] = (
    WeakKeyDictionary()
)


def client() -> AsyncOpenAI:
    where = (conf.OPENAI_BASE_URL, conf.OPENAI_API_KEY)
    loop = asyncio.get_running_loop()
    known, found = _clients.get(loop, (None, None))
    if found is None or known != where:
        found = AsyncOpenAI(
            base_url=where[0] or None,
            api_key=where[1] or "none",  # a local model needs no key, but the client insists on one
            timeout=Timeout(PATIENCE_SECONDS, connect=CONNECT_SECONDS),
            # Its own retries would sleep for up to a minute where a model asks for it.
            max_retries=0,
        )
        _clients[loop] = where, found
    return found


def model(
    name: str, user_id: str = "", earlier: int = 0, send_event: SendEvent | None = None
) -> LanguageModel:
    """A new model for each run: it stores how its requests and its answer ended.

    ``user_id``, ``earlier``, ``send_event``: see ``ModelRequests``.
    """
    kind = ChatCompletionsModel if conf.SUPPORT_MODEL_API == "chat_completions" else ResponsesModel
    return kind(name, client(), ModelRequests((conf.OPENAI_BASE_URL, name), user_id, earlier, send_event))


def settings() -> ModelSettings:
    # ``store`` is left to the provider. OpenAI keeps responses for a month, and store=False would
    # spare that, but breaks every answer in which a reasoning model uses a tool: its next request
    # refers to reasoning that then is not there. Data retention is switched off in OpenAI's project.
    return ModelSettings(retry=ModelRetrySettings(max_retries=RETRIES, policy=_is_worth_a_retry))


def run_config() -> RunConfig:
    return RunConfig(
        # Tracing posts every prompt to OpenAI, whatever OPENAI_BASE_URL says.
        tracing_disabled=not conf.SUPPORT_TRACING,
        tool_not_found_behavior="return_error_to_model",  # which may then use one that exists
    )


def _is_worth_a_retry(failed: RetryPolicyContext) -> bool:
    """Only asked before the first word has come."""
    status, wait = failed.normalized.status_code, failed.normalized.retry_after
    if failed.normalized.is_timeout or (wait is not None and wait > WORTH_WAITING_SECONDS):
        return False  # somebody has waited for long enough, or would have to
    return failed.normalized.is_network_error or status in {408, 409, 429} or (status or 0) >= 500
