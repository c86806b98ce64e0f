"""The default ChatKit server. SUPPORT_MODEL or SUPPORT_AGENT answers, or else the local responder."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from chatkit.actions import Action
from chatkit.errors import CustomStreamError
from chatkit.server import ChatKitServer
from chatkit.types import (
    AssistantMessageItem,
    AudioInput,
    FeedbackKind,
    InferenceOptions,
    SDKHiddenContextItem,
    ThreadItem,
    ThreadMetadata,
    ThreadStreamEvent,
    TranscriptionResult,
    UserMessageItem,
    WidgetItem,
)

from support.assistant import agent, dictation, local_responder, model_choice
from support.assistant.approvals import decisions
from support.attachments.store import AttachmentStore
from support.conf import conf
from support.context import Owner, RequestContext
from support.storage.feedback import save_feedback
from support.storage.store import Store


class SupportServer(ChatKitServer[RequestContext]):
    def __init__(self) -> None:
        self.chat_store: Store[RequestContext] = Store()
        super().__init__(self.chat_store, AttachmentStore())

    async def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: RequestContext
    ) -> AsyncIterator[ThreadStreamEvent]:
        _require_active(thread)
        if conf.SUPPORT_MODEL or conf.SUPPORT_AGENT:
            answer = agent.respond(self.store, thread, context)
        else:
            answer = local_responder.respond(self.store, thread, input_user_message, context)
        async for event in answer:
            yield event

    def check_model_choice(self, options: InferenceOptions) -> None:
        """Raise ``ModelChoiceRefused`` if the model or the tool is not on offer.

        A subclass with its own ``respond`` has its own models and tools, so its choices are not checked.
        """
        if type(self).respond is SupportServer.respond:
            model_choice.check(options)

    async def action(
        self,
        thread: ThreadMetadata,
        action: Action[str, Any],
        sender: WidgetItem | None,
        context: RequestContext,
    ) -> AsyncIterator[ThreadStreamEvent]:
        if not decisions.is_decision(action):
            raise CustomStreamError("This chat has no actions.", allow_retry=False)
        _require_active(thread)
        async for event in agent.resume(self.store, thread, action, sender, context):
            yield event

    async def add_feedback(
        self, thread_id: str, item_ids: list[str], feedback: FeedbackKind, context: RequestContext
    ) -> None:
        await save_feedback(Owner.of(context), thread_id, item_ids, feedback)

    async def transcribe(self, audio_input: AudioInput, context: RequestContext) -> TranscriptionResult:
        return TranscriptionResult(text=await dictation.transcribe(audio_input))

    async def handle_stream_cancelled(
        self, thread: ThreadMetadata, pending_items: list[ThreadItem], context: RequestContext
    ) -> None:
        # The ChatKit SDK's own method stores the items one by one. This method stores them in one call,
        # because a shutdown cancels the task a second time soon after the first. The call does not overwrite
        # items: the cancellation may come while the whole answer is stored, and a partial answer must not
        # replace it.
        partial_answers = [item for item in pending_items if _has_text(item)]
        stopped = SDKHiddenContextItem(
            id=self.store.generate_item_id("sdk_hidden_context", thread, context),
            thread_id=thread.id,
            created_at=datetime.now(),  # naive, as all times in the ChatKit SDK
            content="The user stopped the answer here. Do not go on with it.",
        )
        await self.chat_store.add_missing_items(thread.id, [*partial_answers, stopped], context)


def _require_active(thread: ThreadMetadata) -> None:
    # The ChatKit SDK does not check this. Its client only changes the user interface for a closed thread.
    if thread.status.type != "active":
        raise CustomStreamError("This conversation is closed.", allow_retry=False)


def _has_text(item: ThreadItem) -> bool:
    return isinstance(item, AssistantMessageItem) and any(part.text.strip() for part in item.content)
