"""The code in docs/tools.md is the code of files that other tests run."""

from tests.fixtures.code_blocks import TOP, blocks

SHOP, SERVER = blocks("test_document.py", "python")


def test_the_tools_of_the_document_are_those_of_the_example_shop() -> None:
    assert SHOP.text == (TOP / "examples/django-shop" / SHOP.file).read_text()


def test_the_mcp_server_of_the_document_is_the_tested_one() -> None:
    assert SERVER.text == (TOP / "tests/fixtures/servers/todo_tools.py").read_text()
