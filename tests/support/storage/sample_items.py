"""An item of each type that ChatKit's SDK has."""

from chatkit.actions import ActionConfig
from chatkit.types import (
    Annotation,
    AssistantMessageContent,
    AssistantMessageItem,
    ClientToolCallItem,
    CustomSummary,
    CustomTask,
    DurationSummary,
    EndOfTurnItem,
    EntitySource,
    FileAttachment,
    FileSource,
    FileTask,
    GeneratedImage,
    GeneratedImageItem,
    HiddenContextItem,
    ImageAttachment,
    ImageTask,
    InferenceOptions,
    SDKHiddenContextItem,
    SearchTask,
    StructuredInputAnswer,
    StructuredInputFreeform,
    StructuredInputItem,
    StructuredInputMultipleChoice,
    StructuredInputMultipleChoiceOption,
    TaskItem,
    ThoughtTask,
    ThreadItem,
    ToolChoice,
    URLSource,
    UserMessageItem,
    UserMessageTagContent,
    UserMessageTextContent,
    WidgetItem,
    Workflow,
    WorkflowItem,
)
from chatkit.widgets import (
    BasicRoot,
    Button,
    Card,
    DynamicWidgetComponent,
    DynamicWidgetRoot,
    ListView,
    ListViewItem,
    Text,
)

from tests.fixtures.owner import MOMENT

ITEM = {"id": "item_1", "thread_id": "thr_1", "created_at": MOMENT}
WEB = URLSource(title="A page", url="https://example.com/a?b=c", attribution="example.com", group="web")
FILE = FileSource(title="A file", filename="a.pdf", description="Minutes", timestamp="2026-01-01")
ENTITY = EntitySource(id="e1", title="Order 7", icon="cube", interactive=True, data={"n": [1, 2.5, None]})
ITEMS: dict[str, ThreadItem] = {
    "user message": UserMessageItem(
        **ITEM,
        content=[
            UserMessageTextContent(text="Größe ✓ 👩‍🚀 🇫🇷 \u2028 \"quoted\" \\u0000 'as text'"),
            UserMessageTagContent(
                id="t1", text="order", data={"a": {"b": [1, None]}}, group="g", interactive=True
            ),
        ],
        attachments=[
            FileAttachment(id="atc_1", name="a.pdf", mime_type="application/pdf", metadata={"bytes": 7}),
            ImageAttachment(
                id="atc_2", name="b.png", mime_type="image/png", preview_url="https://x.example/b"
            ),
        ],
        quoted_text="what you said",
        inference_options=InferenceOptions(tool_choice=ToolChoice(id="search"), model="small"),
    ),
    "empty user message": UserMessageItem(
        **ITEM, content=[], quoted_text="", inference_options=InferenceOptions()
    ),
    "assistant message": AssistantMessageItem(
        **ITEM,
        content=[
            AssistantMessageContent(
                text="See **here**.",
                annotations=[
                    Annotation(source=WEB, index=3),
                    Annotation(source=FILE),
                    Annotation(source=ENTITY),
                ],
            ),
            AssistantMessageContent(text=""),
        ],
    ),
    "client tool call": ClientToolCallItem(
        **ITEM,
        status="completed",
        call_id="call_1",
        name="locate",
        arguments={"deep": [{"x": 1}], "big": 2**70, "small": 1e-9},
        output=[{"ok": True}, None, "text", 0.1],
    ),
    "pending client tool call": ClientToolCallItem(**ITEM, call_id="c", name="n", arguments={}),
    "card": WidgetItem(
        **ITEM,
        widget=Card(
            size="sm",
            children=[Text(value="Hi"), Button(label="Go", onClickAction=ActionConfig(type="go", payload=1))],
        ),
        copy_text="Hi",
    ),
    "list view": WidgetItem(**ITEM, widget=ListView(children=[ListViewItem(children=[Text(value="Hi")])])),
    "basic widget": WidgetItem(
        **ITEM, widget=BasicRoot(children=[DynamicWidgetComponent(type="Text", value="Hi")])
    ),
    "widget of a template": WidgetItem(
        **ITEM,
        widget=DynamicWidgetRoot.model_validate(
            {
                "type": "Card",
                "sparkle": {"level": 9},
                "children": [
                    {"type": "Text", "value": "Hi", "shimmer": True},
                    {"type": "Table", "rows": [["a", 1]], "children": {"type": "Row", "tilt": 3}},
                ],
            }
        ),
    ),
    "custom workflow": WorkflowItem(
        **ITEM,
        workflow=Workflow(
            type="custom",
            tasks=[
                CustomTask(title="Look", icon="cube", content="there", status_indicator="complete"),
                SearchTask(title="Search", title_query="q", queries=["a", "b"], sources=[WEB]),
                FileTask(title="Read", sources=[FILE]),
                ImageTask(title="Draw", status_indicator="loading"),
            ],
            summary=CustomSummary(title="Done", icon="cube"),
            expanded=True,
        ),
    ),
    "reasoning workflow": WorkflowItem(
        **ITEM,
        workflow=Workflow(
            type="reasoning", tasks=[ThoughtTask(content="Hm")], summary=DurationSummary(duration=3)
        ),
    ),
    "task": TaskItem(**ITEM, task=CustomTask(title="Look")),
    "generated image": GeneratedImageItem(**ITEM, image=GeneratedImage(id="ig_1", url="data:image/png;,")),
    "image to come": GeneratedImageItem(**ITEM),
    "structured input": StructuredInputItem(
        **ITEM,
        status="answered",
        inputs=[
            StructuredInputMultipleChoice(
                id="q1",
                question="How urgent?",
                options=[StructuredInputMultipleChoiceOption(value="Low")],
                multiple=True,
                answer=StructuredInputAnswer(values=["Low", "Other"]),
            ),
            StructuredInputFreeform(
                id="q2", question="Why?", description="…", answer=StructuredInputAnswer(skipped=True)
            ),
        ],
    ),
    "hidden context": HiddenContextItem(**ITEM, content={"any": ["thing", 1, None]}),
    "the SDK's hidden context": SDKHiddenContextItem(**ITEM, content="The user cancelled the stream."),
    "end of turn": EndOfTurnItem(**ITEM),
}
