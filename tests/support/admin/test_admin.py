"""The admin of conversations: staff read them, and delete them with the permission to do so."""

import json
import re
from collections.abc import Callable
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from markdown_it import MarkdownIt

from support.admin import markdown
from support.files import stored_files
from support.models import Attachment, Feedback, Item, Thread
from tests.fixtures.accounts.people import Person
from tests.fixtures.accounts.staff import VIEW, signed_in
from tests.fixtures.attachments import PNG, attach
from tests.fixtures.database.query_plans import rows_read, statements_of
from tests.fixtures.database.rows import assistant_message, create_items, create_thread, user_message
from tests.fixtures.servers.api import Api, create, http, message, operation

LIST = "/admin/support/thread/"


@pytest.fixture(autouse=True)
def _no_threads_of_other_tests(db: None) -> None:
    Thread.objects.all().delete()


@pytest.fixture
def staff(auth: Any, db: None) -> Client:
    return signed_in(*VIEW)


def page_of(thread: Thread, staff: Client, query: str = "") -> str:
    page = staff.get(reverse("admin:support_thread_change", args=[thread.pk]) + query)
    assert page.status_code == 200
    return page.content.decode()


def transcript_of(thread: Thread, staff: Client) -> list[tuple[str, list[str]]]:
    page = staff.get(reverse("admin:support_thread_change", args=[thread.pk]))
    entries = page.context["transcript"].entries
    return [(entry.speaker, [each.text for each in entry.texts]) for entry in entries]


def listed(staff: Client, **query: str) -> list[str]:
    page = staff.get(LIST, query)
    assert page.status_code == 200
    return [thread.thread_id for thread in page.context["cl"].result_list]


# --- Reading --------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_conversation_is_shown_with_its_messages_and_their_feedback(
    staff: Client, api: Api, person: Person
) -> None:
    events = api.events(create("Where is my parcel?"), person.token())
    of_thread, answer = {"thread_id": events[0]["thread"]["id"]}, events[-1]["item"]
    rated = operation("items.feedback", **of_thread, item_ids=[answer["id"]], kind="negative")
    assert api.post(rated, person.token()).status_code == 200
    thread = Thread.objects.get(**of_thread)

    page = page_of(thread, staff)

    assert transcript_of(thread, staff) == [
        ("User", ["Where is my parcel?"]),
        ("Assistant", [answer["content"][0]["text"]]),
    ]
    assert f'href="/admin/authn/user/{person.user_id}/change/"' in page
    beside_the_answer = page.partition(">Assistant<")[2].partition("</li>")[0]
    assert ">Negative</span>" in beside_the_answer
    assert page.count("Negative") == 1


SHOWN_AS: list[tuple[dict[str, Any], tuple[str, list[str]]]] = [
    (user_message("Hello", quoted_text="Hi"), ("User", ["> Hi", "Hello"])),
    (
        {
            "type": "user_message",
            "content": [{"type": "input_tag", "id": "1", "text": "Order 7", "data": {}}],
        },
        ("User", ["@Order 7"]),
    ),
    (
        {
            "type": "assistant_message",
            "content": [
                {
                    "type": "output_text",
                    "text": "See there.",
                    "annotations": [
                        {"source": {"type": "url", "title": "Help", "url": "https://help.example"}}
                    ],
                }
            ],
        },
        ("Assistant", ["See there.", "Source: Help, https://help.example"]),
    ),
    (
        {
            "type": "client_tool_call",
            "name": "find",
            "arguments": {"order": 7},
            "output": {"state": "sent"},
        },
        ("Tool", ['find({"order": 7})', '→ {"state": "sent"}']),
    ),
    (
        {"type": "client_tool_call", "name": "find", "arguments": {}, "output": None},
        ("Tool", ["find({})", "→ no answer yet"]),
    ),
    (
        {
            "type": "widget",
            "widget": {
                "type": "Card",
                "children": [
                    {"type": "Title", "value": "Order 7", "size": "lg"},
                    {"type": "Row", "children": [{"type": "Text", "value": "On its way"}]},
                    {"type": "Button", "label": "Track", "onClickAction": {"type": "track"}},
                ],
                "confirm": {"label": "Keep", "action": {"type": "keep"}},
            },
        },
        ("Widget", ["Order 7\nOn its way\nTrack\nKeep"]),
    ),
    (
        {
            "type": "workflow",
            "workflow": {
                "type": "custom",
                "summary": {"title": "Looked it up"},
                "tasks": [
                    {"type": "thought", "title": "Thinking", "content": "A parcel, then."},
                    {
                        "type": "web_search",
                        "queries": ["parcel 7"],
                        "sources": [{"title": "T", "url": "https://t"}],
                    },
                    {"type": "file", "title": "Read", "sources": [{"title": "a", "filename": "a.pdf"}]},
                ],
            },
        },
        (
            "Workflow",
            [
                "Looked it up",
                "Thinking\nA parcel, then.",
                "parcel 7\nSource: T, https://t",
                "Read\nSource: a, a.pdf",
            ],
        ),
    ),
    (
        {
            "type": "workflow",
            "workflow": {
                "type": "reasoning",
                "summary": {"duration": 3},
                "tasks": [{"type": "thought", "content": "A parcel, then."}],
            },
        },
        ("Assistant's thoughts", ["3 s", "A parcel, then."]),
    ),
    (
        {"type": "task", "task": {"type": "custom", "title": "Booking", "content": "7"}},
        ("Task", ["Booking\n7"]),
    ),
    (
        {"type": "generated_image", "image": {"id": "1", "url": "https://i.example"}},
        ("Image", ["https://i.example"]),
    ),
    (
        {
            "type": "structured_input",
            "inputs": [
                {"question": "How soon?", "answer": {"values": ["Today", "Now"]}},
                {"question": "Why?", "answer": {"values": [], "skipped": True}},
                {"question": "Who?", "answer": None},
            ],
        },
        ("Questions", ["How soon? → Today, Now", "Why? → skipped", "Who? → no answer yet"]),
    ),
    ({"type": "hidden_context_item", "content": {"cart": 3}}, ("Hidden from the user", ['{"cart": 3}'])),
    ({"type": "end_of_turn"}, ("End of turn", [])),
    ({"type": "hologram", "light": [1]}, ("hologram", ['{"type": "hologram", "light": [1]}'])),
]


@pytest.mark.parametrize(("item", "shown"), SHOWN_AS, ids=[item["type"] for item, _ in SHOWN_AS])
def test_every_type_of_item_is_shown_as_text(staff: Client, item: dict[str, Any], shown: Any) -> None:
    thread = create_thread()
    create_items(thread, item)

    assert transcript_of(thread, staff) == [shown]


@pytest.mark.parametrize("kind", [item["type"] for item, _ in SHOWN_AS])
@pytest.mark.parametrize("filling", [None, [], [None], "text", {"a": None}], ids=str)
def test_items_of_an_unknown_shape_are_shown_too(staff: Client, kind: str, filling: Any) -> None:
    names = (
        "content",
        "attachments",
        "widget",
        "workflow",
        "task",
        "image",
        "inputs",
        "name",
        "arguments",
        "output",
    )
    thread = create_thread()
    create_items(thread, {"type": kind} | dict.fromkeys(names, filling))

    [(speaker, _)] = transcript_of(thread, staff)

    assert speaker


ATTACK = '<script>alert(1)</script><a href="javascript:alert(1)">x</a>'
ATTACKS = [
    user_message(
        ATTACK, quoted_text=ATTACK, attachments=[{"id": ATTACK, "name": ATTACK, "mime_type": ATTACK}]
    ),
    {"type": "assistant_message", "content": [{"text": f"[x](javascript:alert(1)) {ATTACK}"}]},
    {
        "type": "widget",
        "widget": {
            "type": "Card",
            "children": [{"type": "Image", "src": "javascript:alert(1)", "alt": ATTACK}],
        },
    },
    {"type": "client_tool_call", "name": ATTACK, "arguments": {ATTACK: ATTACK}, "output": ATTACK},
    {"type": "task", "task": {"title": ATTACK, "sources": [{"title": ATTACK, "url": "javascript:alert(1)"}]}},
    {"type": ATTACK[:40], "anything": ATTACK},
]


@pytest.mark.parametrize("item", ATTACKS, ids=lambda item: item["type"])
def test_the_text_of_messages_is_escaped(staff: Client, item: dict[str, Any]) -> None:
    thread = create_thread(title=ATTACK, user_id='"><script>', thread_id=ATTACK)
    create_items(thread, item)

    for page in (page_of(thread, staff), staff.get(LIST).content.decode()):
        assert "<script>alert" not in page
        assert '"><script>' not in page
        assert [address for address in addresses_in(page) if not address.startswith(SAFE_ADDRESSES)] == []


SAFE_ADDRESSES = ("/", "?", "#", "https://", "http://", "mailto:")


def addresses_in(page: str) -> list[str]:
    """The values of all href and src attributes."""
    found: list[str] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: found.extend(  # type: ignore[method-assign]
        value or "" for name, value in attrs if name in ("href", "src")
    )
    parser.feed(page)
    assert found
    return found


def test_an_assistants_markdown_is_shown_and_a_users_is_not(staff: Client) -> None:
    thread = create_thread()
    answer = "**Yes**:\n\n```python\nif x:\n    y()\n```\n\n| a |\n|---|\n| 1 |"
    create_items(thread, user_message("**bold**\n    indented"), assistant_message(answer))

    page = page_of(thread, staff)

    assert '<div class="plain">**bold**\n    indented</div>' in page
    assert "<p><strong>Yes</strong>:</p>\n<pre><code>if x:\n    y()\n</code></pre>\n<table>" in page


HOSTILE = [
    *("<img src=x onerror=alert(1)>", "<svg/onload=alert(1)>", "<iframe src=//x>", "<style>*{}</style>"),
    *("[x](javascript:alert(1))", "[x](JaVaScRiPt&#58;alert(1))", "[x](data:text/html,x)", "[x](vbscript:x)"),
    *("<javascript:alert(1)>", "[x]: javascript:alert(1)\n\n[x]", "![x](javascript:alert(1))"),
    *('[x](<https://a" onmouseover=alert(1) x=">)', '[x](https://a "" onclick=alert(1)")'),
    *("![tracks](https://tracker.example/1.png)", "`<b onclick=alert(1)>`", "```\n<script>alert(1)\n```"),
    "<a href=javascript:alert(1)>x</a>",
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("layer", ["both", "parser alone", "sanitizer alone"])
def test_hostile_markdown_becomes_harmless(monkeypatch: pytest.MonkeyPatch, layer: str, text: str) -> None:
    if layer == "parser alone":
        monkeypatch.setattr("nh3.clean", lambda html, **_: html)
    if layer == "sanitizer alone":
        parser = MarkdownIt("commonmark", {"html": True})
        parser.validateLink = lambda url: True  # type: ignore[method-assign]
        monkeypatch.setattr("support.admin.markdown._parser", lambda: parser)
    found: list[tuple[str, str, str]] = []
    html_parser = HTMLParser()
    html_parser.handle_starttag = lambda tag, attrs: found.extend(  # type: ignore[method-assign]
        (tag, name, value or "") for name, value in [*attrs, ("", "")]
    )

    html_parser.feed(markdown.to_html(text))

    assert {tag for tag, _, _ in found} <= {"p", "a", "pre", "code"}
    assert {name for _, name, _ in found} <= {"", "href", "target", "rel", "title"}
    assert [value for _, name, value in found if name == "href" and not value.startswith("https://")] == []


def test_markdown_that_takes_long_is_shown_as_plain_text(
    staff: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = create_thread()
    wide_table = "|a" * 60 + "\n" + "|-" * 60 + "\n|" * 300
    create_items(thread, *(assistant_message(text) for text in ("**old**" + " " * 90, wide_table, "**new**")))
    monkeypatch.setattr("support.admin.transcript.MAX_MARKDOWN_LENGTH", len(wide_table) + 50)

    page = page_of(thread, staff)

    assert "<strong>new</strong>" in page
    assert "**old**" in page
    assert "|a|a|a" in page


@pytest.mark.parametrize("line_end", ["\n", "\r", "\r\n"])
def test_a_table_that_takes_long_is_plain_text_with_each_kind_of_line_end(
    staff: Client, line_end: str
) -> None:
    thread = create_thread()
    columns = 1_000  # the parser fills each short row up to this number of cells
    wide_table = line_end.join(["|a" * columns, "|-" * columns, *["a"] * 100])
    create_items(thread, assistant_message(wide_table))

    assert '<div class="markdown">' not in page_of(thread, staff)


def test_only_the_newest_of_many_tables_on_a_page_are_shown_as_tables(staff: Client) -> None:
    thread = create_thread()
    table = "|a" * 40 + "\n" + "|-" * 40 + "\n" + "a\n" * 40
    create_items(thread, *[assistant_message(table)] * 30)

    page = page_of(thread, staff)

    assert 5 < page.count('<div class="markdown">') < 15
    assert page.index("|a|a|a") < page.index('<div class="markdown">')


def test_tool_calls_and_thoughts_are_folded_and_answers_are_not(staff: Client) -> None:
    thread = create_thread()
    create_items(thread, *(item for item, _ in SHOWN_AS))

    entries = (
        staff.get(reverse("admin:support_thread_change", args=[thread.pk])).context["transcript"].entries
    )
    folded = {entry.speaker: entry.summary for entry in entries if entry.is_folded}

    assert folded == {
        "Tool": "find({})",
        "Workflow": "Looked it up",
        "Assistant's thoughts": "3 s",
        "Task": "Booking",
        "Hidden from the user": '{"cart": 3}',
    }
    assert [entry.side for entry in entries[:3]] == ["user", "user", "assistant"]


def test_a_text_of_megabytes_is_shortened(staff: Client) -> None:
    thread = create_thread()
    create_items(thread, user_message("x" * 1_000_000))

    [(_, [text])] = transcript_of(thread, staff)

    assert text.endswith("x… (980000 more characters)")
    assert len(text) < 21_000


def test_a_long_conversation_is_read_page_by_page_from_its_end(staff: Client) -> None:
    thread, other = create_thread(), create_thread(thread_id="thr_2")
    create_items(other, user_message("of another"))
    create_items(thread, *(user_message(f"number {n}") for n in range(120)))
    create_items(other, user_message("of another"))

    def numbers_shown(query: str = "") -> tuple[list[int], Any]:
        page = staff.get(reverse("admin:support_thread_change", args=[thread.pk]) + query)
        transcript = page.context["transcript"]
        return [int(entry.texts[0].text.split()[1]) for entry in transcript.entries], transcript

    numbers, last = numbers_shown()
    assert (numbers, last.later) == ([*range(70, 120)], None)
    numbers, middle = numbers_shown(f"?before={last.earlier}")
    assert numbers == [*range(20, 70)]
    numbers, first = numbers_shown(f"?before={middle.earlier}")
    assert (numbers, first.earlier) == ([*range(20)], None)
    numbers, again = numbers_shown(f"?after={first.later}")
    assert numbers == [*range(20, 70)]
    numbers, end = numbers_shown(f"?after={again.later}")
    assert (numbers, end.later) == ([*range(70, 120)], None)
    assert numbers_shown("?before=x&after=" + "9" * 40)[0] == [*range(70, 120)]


# --- Lists and searches ---------------------------------------------------------------------------


def test_conversations_are_listed_newest_first_and_found_by_their_user(staff: Client, person: Person) -> None:
    now = timezone.now()
    for number, user_id in enumerate([person.user_id, "bob", person.user_id]):
        create_thread(user_id, f"thr_{number}", created_at=now + timedelta(seconds=number))

    of_person = ["thr_2", "thr_0"]
    assert listed(staff) == ["thr_2", "thr_1", "thr_0"]
    assert listed(staff, user=person.user_id) == listed(staff, q=person.user_id) == of_person
    assert listed(staff, q=person.email.upper()) == of_person
    assert listed(staff, q="thr_1") == ["thr_1"]
    assert listed(staff, q="thr_") == listed(staff, user="nobody") == listed(staff, user="bob\0") == []
    assert f'href="?user={person.user_id}"' in staff.get(LIST).content.decode()


def test_a_list_says_what_each_conversation_is_about_and_how_it_went(staff: Client, person: Person) -> None:
    thread = create_thread(person.user_id, title="My parcel")
    create_thread("nobody", "thr_2", title=None)
    texts = [
        user_message("Hi"),
        assistant_message("Hello"),
        {"type": "end_of_turn"},
        assistant_message("Bye"),
    ]
    _, good, _, bad = create_items(thread, *texts)
    Feedback.objects.create(item=good, kind="positive")
    Feedback.objects.create(item=bad, kind="negative")
    Item.objects.filter(pk=bad.pk).update(created_at=timezone.now() - timedelta(hours=2, minutes=1))

    untitled, listed = rows_of(staff.get(LIST).content.decode())
    found = rows_of(staff.get(LIST, {"q": person.email}).content.decode())

    about = f"My parcel {person.name} {person.email} 3 1 positive 1 negative 2\N{NO-BREAK SPACE}h ago thr_1"
    assert (listed, found) == (about, [about])
    assert untitled.startswith("Untitled nobody 0 - now")


def test_staff_see_the_organization_of_a_conversation_and_list_those_of_one(
    staff: Client, settings: Any
) -> None:
    thread, _ = create_thread("ada"), create_thread("ada", "thr_2")
    Thread.objects.filter(pk=thread.pk).update(organization_id="acme")

    without = staff.get(LIST).content.decode()
    settings.SUPPORT_CONVERSATIONS = "user_and_organization"
    page, shown = staff.get(LIST).content.decode(), page_of(thread, staff)

    assert "acme" not in without
    assert f'href="{LIST}?organization=acme"' in page
    assert f'href="{LIST}?organization=acme"' in shown
    assert listed(staff, organization="acme") == ["thr_1"]
    assert listed(staff, organization="") == listed(staff, organization="acme\0") == []


def rows_of(page: str) -> list[str]:
    """The text of each row of the list."""
    rows = re.findall(r"<tr>(<(?:td|th) class=.*?)</tr>", page, re.DOTALL)
    return [re.sub(r" +", " ", re.sub(r"<[^>]*>", " ", row)).strip() for row in rows]


def test_a_user_links_to_their_conversations_and_each_conversation_to_its_user(
    staff: Client, person: Person
) -> None:
    thread = create_thread(person.user_id)
    user_page, conversations = (
        reverse("admin:authn_user_change", args=[quote(person.user_id)]),
        f"{LIST}?user=",
    )

    page, user = page_of(thread, staff), staff.get(user_page).content.decode()
    may_not_read = signed_in("view_user", name="other").get(user_page).content.decode()

    assert f'href="{user_page}"' in page
    assert person.email in page
    assert f'href="{conversations}{person.user_id}">Conversations</a>' in page
    assert f'href="{conversations}{person.user_id}">Conversations</a>' in user
    assert conversations not in may_not_read


def test_staff_who_may_not_view_users_see_only_their_ids(person: Person) -> None:
    client, thread = signed_in("view_thread"), create_thread(person.user_id)

    for page in (page_of(thread, client), client.get(LIST, {"user": person.user_id}).content.decode()):
        assert person.user_id in page
        assert person.email not in page


def test_a_search_for_a_name_says_what_is_searched(staff: Client) -> None:
    page = staff.get(LIST, {"q": "Ada"}).content.decode()

    assert "Nothing was found for “Ada”. Only whole email addresses and ids are searched" in page


def test_conversations_are_filtered_by_their_creation(staff: Client) -> None:
    for days in (0, 3, 300):
        create_thread(thread_id=f"thr_{days}", created_at=timezone.now() - timedelta(days=days))
    page = staff.get(LIST)
    [dates] = page.context["cl"].filter_specs
    past_week = next(
        choice for choice in dates.choices(page.context["cl"]) if choice["display"] == "Past 7 days"
    )

    found = staff.get(LIST + past_week["query_string"]).context["cl"].result_list

    assert [thread.thread_id for thread in found] == ["thr_0", "thr_3"]


@pytest.mark.parametrize(
    "name", ["data__contains", "title__regex", "user_id", "thread_id__in", "items__type"]
)
def test_a_url_cannot_filter_by_other_columns(staff: Client, name: str) -> None:
    assert staff.get(LIST, {name: "1"}).status_code == 400


MANY = """
INSERT INTO support_thread (user_id, organization_id, thread_id, created_at, data)
SELECT 'user' || n % 5000, CASE WHEN n % 400 = 0 THEN 'acme' ELSE '' END,
    'thr_' || n, now() - n * interval '1 hour', '{}' FROM generate_series(1, 20000) n;
INSERT INTO support_item (thread_id, item_id, type, created_at, data)
SELECT id, 'msg_' || n, 'end_of_turn', now(), '{"type": "end_of_turn"}'
FROM support_thread, generate_series(1, 20000) n WHERE support_thread.thread_id = 'thr_7';
ANALYZE support_thread, support_item
"""


def test_a_page_reads_only_what_it_shows(staff: Client) -> None:
    with connection.cursor() as cursor:
        cursor.execute(MANY)
    thread = Thread.objects.get(thread_id="thr_7")
    middle = thread.items.order_by("id")[10_000].pk
    page = f"support/thread/{thread.pk}/change/"
    week_ago = f"{timezone.now() - timedelta(days=7):%Y-%m-%d} 00:00:00+00:00"

    for address, query in [
        ("support/thread/", {}),
        ("support/thread/", {"p": "3"}),
        ("support/thread/", {"user": "user7"}),
        ("support/thread/", {"organization": "acme"}),
        ("support/thread/", {"q": "user7"}),
        ("support/thread/", {"q": "thr_7"}),
        ("support/thread/", {"created_at__gte": week_ago, "created_at__lt": "2999-01-01 00:00:00+00:00"}),
        (page, {}),
        (page, {"before": str(middle)}),
        (page, {"after": str(middle)}),
    ]:
        statements = statements_of(staff, address, **query)

        assert len(statements) <= 10
        for statement in statements:
            if "support_" in statement.sql:
                steps = statement.plan()
                assert "COUNT(*)" not in statement.sql
                assert "Seq Scan" not in {step["Node Type"] for step in steps}, statement.sql
                assert rows_read(steps) <= 300, (address, query)


# --- Attachments ----------------------------------------------------------------------------------


@pytest.fixture
def with_a_picture(api: Api, person: Person) -> Thread:
    attachment = attach(api, person)
    sent = operation("threads.create", input=message("Look") | {"attachments": [attachment["id"]]})
    events = api.events(sent, person.token())
    return Thread.objects.get(thread_id=events[0]["thread"]["id"])


def attachment_address(thread: Thread) -> str:
    attachment = Attachment.objects.get(thread=thread)
    return reverse("admin:support_thread_attachment", args=[thread.pk, attachment.attachment_id])


@pytest.mark.django_db(transaction=True)
def test_staff_who_may_view_a_conversation_can_open_its_attachments(
    staff: Client, api: Api, with_a_picture: Thread, settings: Any
) -> None:
    settings.PUBLIC_URL = api.origin
    address = attachment_address(with_a_picture)

    page = page_of(with_a_picture, staff)
    sent_on = staff.get(address)

    assert f'href="{address}"' in page
    assert f'<img src="{address}" alt="a.png" loading="lazy">' in page
    assert "signature" not in page
    assert sent_on.status_code == 302
    assert http.get(sent_on.headers["Location"]).content == PNG
    assert signed_in("view_user", name="other").get(address).status_code == 403
    assert Client().get(address).headers["Location"].startswith("/admin/login/")


@pytest.mark.django_db(transaction=True)
def test_an_attachment_opens_only_in_a_conversation_that_carries_it(
    staff: Client, with_a_picture: Thread
) -> None:
    other, address = create_thread(), attachment_address(with_a_picture)
    elsewhere = address.replace(f"/{with_a_picture.pk}/", f"/{other.pk}/")
    nowhere = address.replace(f"/{with_a_picture.pk}/", f"/{'9' * 30}/")
    missing = address.replace("atc_", "atc_0")
    Attachment.objects.create(user_id="ada", attachment_id="atc_1", thread=other, data={})
    not_uploaded = reverse("admin:support_thread_attachment", args=[other.pk, "atc_1"])
    no_text = reverse("admin:support_thread_attachment", args=[other.pk, "atc_\0"])

    for each in (elsewhere, nowhere, missing, not_uploaded, no_text):
        assert staff.get(each).status_code == 404


@pytest.mark.django_db(transaction=True)
def test_an_attachment_opens_in_every_conversation_that_carries_it(
    staff: Client, api: Api, person: Person, with_a_picture: Thread
) -> None:
    attachment = Attachment.objects.get(thread=with_a_picture)
    sent = operation("threads.create", input=message("Look") | {"attachments": [attachment.attachment_id]})
    api.events(sent, person.token())
    api.events(operation("threads.create", input=message("Hi")), person.token())

    statuses = [
        staff.get(
            reverse("admin:support_thread_attachment", args=[thread.pk, attachment.attachment_id])
        ).status_code
        for thread in Thread.objects.owned_by(person.user_id).order_by("id")
    ]

    assert statuses == [302, 302, 404]
    assert "/attachments/" in page_of(with_a_picture, staff)


@pytest.mark.django_db(transaction=True)
def test_a_missing_file_is_shown_without_a_link(staff: Client, with_a_picture: Thread) -> None:
    Attachment.objects.filter(thread=with_a_picture).update(file="")

    page = page_of(with_a_picture, staff)

    assert "(image/png, not stored)" in page
    assert "/attachments/" not in page


# --- Deleting -------------------------------------------------------------------------------------

WAYS: list[Callable[[Thread], tuple[str, dict[str, str]]]] = [
    lambda thread: (reverse("admin:support_thread_delete", args=[thread.pk]), {"post": "yes"}),
    lambda thread: (LIST, {"action": "delete_selected", "_selected_action": str(thread.pk), "post": "yes"}),
]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("way", WAYS, ids=["its page", "the list"])
def test_deleting_a_conversation_deletes_all_that_belongs_to_it(with_a_picture: Thread, way: Any) -> None:
    staff, other = signed_in("view_thread", "delete_thread"), create_thread()
    [rated, *_] = with_a_picture.items.all()
    Feedback.objects.create(item=rated, kind="positive")
    name = Attachment.objects.get(thread=with_a_picture).file
    address, data = way(with_a_picture)
    title = "About my illness"
    Thread.objects.filter(pk=with_a_picture.pk).update(title=title)

    answer = staff.post(address, data | {"select_across": "1"})

    assert answer.status_code == 302
    assert list(Thread.objects.all()) == [other]
    assert [model.objects.count() for model in (Item, Feedback, Attachment)] == [0, 0, 0]
    assert not stored_files.storage().exists(name)
    [entry] = LogEntry.objects.all()
    assert (entry.object_repr, entry.user.get_username()) == (with_a_picture.thread_id, "staff")
    assert title not in json.dumps([entry.object_repr, entry.change_message])


def test_deleting_a_long_conversation_does_not_load_it(db: None) -> None:
    staff, thread = signed_in("view_thread", "delete_thread"), create_thread()
    create_items(thread, *(user_message("x") for _ in range(500)))
    loaded: list[str] = []

    def listen(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("SELECT") and "support_item" in sql:
            loaded.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(listen):
        address, data = WAYS[0](thread)
        statuses = [staff.get(address).status_code, staff.post(address, data).status_code]

    assert (statuses, loaded, Item.objects.count()) == ([200, 302], [], 0)


# --- Permissions ----------------------------------------------------------------------------------


def writes(thread: Thread) -> list[tuple[str, dict[str, str]]]:
    change = reverse("admin:support_thread_change", args=[thread.pk])
    return [
        (reverse("admin:support_thread_add"), {"thread_id": "thr_9", "title": "Eve"}),
        (change, {"title": "Eve"}),
        (change, {"title": "Eve", "_saveasnew": "1"}),
        (reverse("admin:support_thread_history", args=[thread.pk]), {"title": "Eve"}),
    ]


def as_stored() -> list[Any]:
    return [*Thread.objects.values_list(), *Item.objects.values_list()]


def test_staff_with_the_view_permission_can_only_view(staff: Client) -> None:
    thread = create_thread()
    create_items(thread, user_message("Hello"))
    before = as_stored()

    answers = [staff.post(address, data).status_code for address, data in writes(thread)]
    answers += [staff.post(*way(thread)).status_code for way in WAYS]
    pages = page_of(thread, staff) + staff.get(LIST).content.decode()

    assert answers == [403, 403, 403, 200, 403, 200]  # 200: the form is shown again
    assert as_stored() == before
    assert not [word for word in ("deletelink", "_save", "addlink", "delete_selected") if word in pages]


def test_a_superuser_cannot_add_or_change_conversations(admin_client: Client) -> None:
    thread = create_thread()
    before = as_stored()

    answers = [admin_client.post(address, data).status_code for address, data in writes(thread)]

    assert answers == [403, 403, 403, 200]
    assert as_stored() == before


def test_staff_without_the_view_permission_see_nothing(db: None) -> None:
    thread, client = create_thread(), signed_in("view_user")
    pages = [
        LIST,
        reverse("admin:support_thread_change", args=[thread.pk]),
        reverse("admin:support_thread_history", args=[thread.pk]),
        reverse("admin:support_thread_delete", args=[thread.pk]),
        reverse("admin:support_thread_attachment", args=[thread.pk, "atc_1"]),
    ]

    assert [client.get(address).status_code for address in pages] == [403] * 5
    assert "/support/" not in client.get(reverse("admin:index")).content.decode()


@pytest.mark.parametrize("chosen", ["abc", "1' OR '1", "", "9" * 40, "-1"])
def test_an_invalid_selection_of_threads_is_a_400(auth: Any, chosen: str) -> None:
    staff = signed_in(*VIEW, "delete_thread")
    create_thread()

    answer = staff.post(LIST, {"action": "delete_selected", "_selected_action": chosen})

    assert answer.status_code == 400
