"""The page in a real browser: it works under the policy, and nothing on it reaches another server.

Needs Chromium and playwright, else it is skipped: apt-get install chromium; pip install playwright.
"""

from __future__ import annotations

import shutil

import pytest
from serving import Server, make_dataset, ok, push

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
FOREIGN = "http://foreign.example"
TEMPLATE = f"""
<p id="said">not run</p>
<img src="{FOREIGN}/template.png"><script src="{FOREIGN}/script.js"></script><iframe src="{FOREIGN}/frame"></iframe>
<style>@import url({FOREIGN}/style.css);</style>
<p>{{{{record.fields.pair.b}}}}</p>
<script>
  fetch("{FOREIGN}/fetch").catch(() => 0);
  navigator.sendBeacon("{FOREIGN}/beacon", "x");
  document.getElementById("said").innerText = "run: " + record.fields.pair.a;
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no browser: apt-get install chromium")
def test_the_page_works_under_the_policy_and_reaches_no_other_server(tmp_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    server = Server(tmp_path / "dir", annotators=("anna",)).start()
    with server.client() as owner:
        dataset = make_dataset(owner, "hostile", publish=False)
        settings = {"type": "custom", "template": TEMPLATE, "advanced_mode": False}
        ok(
            owner.post(
                f"datasets/{dataset}/fields",
                json={"name": "pair", "title": "Pair", "required": True, "settings": settings},
            )
        )
        ok(owner.put(f"datasets/{dataset}/publish"))
        words = f"<img src={FOREIGN}/text.png> </script><script>top.ran = 1</script> $& $' #TEMPLATE# #RECORD_OBJECT#"
        text = f"<img src={FOREIGN}/text.png>"
        push(owner, dataset, [{"fields": {"text": text, "pair": {"a": words, "b": words}}}])
    answered, refused = [], {}
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page()
        page.set_default_timeout(90_000)
        page.on("response", lambda response: answered.append(response.url))
        page.on("requestfailed", lambda request: refused.update({request.url: request.failure}))
        page.goto(server.address)
        page.fill("input[type=text]", "anna")
        page.fill("input[type=password]", server.account("anna")["password"])
        page.keyboard.press("Enter")
        page.wait_for_url(lambda url: "sign-in" not in url)
        page.goto(f"{server.address}/dataset/{dataset}/annotation-mode")
        template = page.frame_locator("iframe").first
        said = template.locator("#said").filter(has_text="run: ").inner_text()
        page.wait_for_load_state("networkidle")
        escaped = template.locator("p").nth(1).inner_text()
        ran = page.evaluate("window.ran")
        browser.close()
    server.stop()
    assert (said, escaped, ran) == (f"run: {words}", words, None)
    assert [url for url in answered if not url.startswith((server.address, "data:", "blob:"))] == []
    foreign = {url: why for url, why in refused.items() if url.startswith(FOREIGN)}
    assert set(foreign.values()) == {"csp"} and len(foreign) >= 4
