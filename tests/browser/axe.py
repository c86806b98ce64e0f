"""axe-core: what a machine can tell about a page's accessibility."""

from playwright.sync_api import Page

from chatbackend.dev.frontend import FRONTEND

SCRIPT = FRONTEND / "node_modules/axe-core/axe.min.js"


def faults(page: Page, *, rules: list[str] | None = None, impacts: set[str] | None = None) -> list[str]:
    """What axe finds; only by these rules, only of these weights."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(SCRIPT.read_text())  # not as a <script>, which the page's own policy would not have
    # preload: it would put the stylesheets that others import into the page, which the policy forbids too.
    options = {"resultTypes": ["violations"], "preload": False} | ({"runOnly": rules} if rules else {})
    found = page.evaluate("(options) => axe.run(options)", options)
    return [
        f"{violation['impact']}: {violation['help']}: {' '.join(map(str, node['target']))}"
        for violation in found["violations"]
        for node in violation["nodes"]
        if impacts is None or violation["impact"] in impacts
    ]
