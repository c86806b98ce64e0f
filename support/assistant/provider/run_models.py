"""The models of one run of the Agents SDK, which may have several agents.

The Agents SDK asks for a model before each request. An agent may name its model, or leave the choice to us.
Both kinds of requests go through our client, to the provider and the API of our settings.
"""

from agents import Model, ModelProvider

from support.assistant.provider.client import make_model
from support.assistant.provider.language_models import AnswerEnding, LanguageModel
from support.assistant.provider.simpler_requests import SendEvent


class RunModels(ModelProvider):
    """Makes each model once for a run.

    ``default``: the name of the model of every agent that names none. The other arguments: see
    ``ModelRequests``.
    """

    def __init__(
        self, default: str, user_id: str = "", earlier_count: int = 0, send_event: SendEvent | None = None
    ) -> None:
        self._default = default
        self._user_id, self._earlier_count, self._send_event = user_id, earlier_count, send_event
        self._models: dict[str | None, LanguageModel] = {}
        self._newest: LanguageModel | None = None

    def get_model(self, model_name: str | None) -> Model:
        if model_name not in self._models:
            self._models[model_name] = make_model(
                model_name or self._default,
                self._user_id,
                self._earlier_count,
                self._send_event,
                is_default=model_name is None,
            )
        self._newest = self._models[model_name]
        return self._newest

    @property
    def ending(self) -> AnswerEnding:
        """How the newest answer ended. It is complete if an agent has a model object of its own."""
        return self._newest.ending if self._newest else AnswerEnding.COMPLETE
