"""The chat page in a real browser, before a node that a test scripts.

`UPDATE_SCREENSHOTS=1 pytest` takes the pictures of docs/ anew.
"""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
import trio

from inference.client import Piece
from scripts.api.openai import twins
from scripts.failure import Failed
from tests.scripts.api.openai.conftest import KEY

CHROMIUM = os.environ.get("TUSSAH_CHROMIUM") or shutil.which("chromium")

pytestmark = [
    pytest.mark.outside,
    pytest.mark.skipif(
        CHROMIUM is None or find_spec("playwright") is None,
        reason="no Chromium: apt-get install chromium, or name one in TUSSAH_CHROMIUM",
    ),
]

PICTURES = Path(__file__).parents[4] / "docs" / "pictures"

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"

LINK = "ton://transfer/UQDNzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3NzW9D"

QUESTION = "Which silk is spun by moths that nobody keeps?"

ANSWER = (
    "Tussah, or wild silk. ",
    "It is spun by moths of the genus Antheraea, which live free on oak and arjun trees; ",
    "the moth has usually left its cocoon before the thread is reeled, ",
    "so the thread is broken and coarser than that of the mulberry silkworm, ",
    "and of the colour of honey, since the tannin of the leaves stays in it.",
)


KNOWLEDGE = """
    (rows) => rows.map((row) => [row.cells[0].firstChild.textContent,
        ...[...row.querySelectorAll('td span')].map((mark) => mark.className)])
"""
"""What the table says of each party."""


def peers(path):
    """A town round the path of the last question."""
    *relays, worker = [hop.hex() for hop in path]
    others = [f"{number:02x}" * 32 for number in range(64, 90)]
    roles = [["relay"], ["relay"], ["worker"], ["relay"], ["relay", "mint"]]
    rows = [(id_, ["relay"]) for id_ in relays] + [(worker, ["worker"])]
    rows += [(id_, roles[at % len(roles)]) for at, id_ in enumerate(others)]
    found = [{"id": id_, "roles": r, "live": id_ != others[0]} for id_, r in rows]
    return {"schema": "tussah/peers/1", "peers": found}


WORKER = {
    "state": "serving",
    "model": "smollm2-135m-instruct-q4_1:" + "cd" * 32,
    "reasons": [],
    "slots": {"busy": 1, "total": 4},
    "queue": 2,
    "answered": 17,
    "tokens": 1_290,
    "tokens_per_s": 29.6,
}


def status(alerts=(), worker=None):
    return {
        "schema": "tussah/status/1",
        "node": {"network": "moths", "chain": "local"},
        "network": {"joined": True, "relays": 21, "workers": 6, "clients_claimed": 84},
        "money": {
            "wallet_nano": 792_300_000,
            "credits_nano": 33_553_408,
            "due_nano": 0,
            "owed_nano": 0,
            "earned_today_nano": 0,
            "spent_today_nano": 7_200_000,
        },
        "worker": worker,
        "machine": {"temperature_c": 61.4, "battery": {"percent": 80.0, "on_mains": True}},
        "alerts": list(alerts),
    }


@pytest.fixture
def town(api, priced, scripted):
    """A node that answers as often as it is asked, with peers, money and an answer to pay for."""
    operator = api.operator
    chosen, offered, progress, *_, done = priced
    operator.peers = lambda: peers(chosen.path)

    async def stand():
        return status(operator.alerts, operator.serving)

    operator.alerts, operator.serving = [], None
    price = {"min": 40_000_000, "median": 50_000_000, "max": 60_000_000}
    models = [{"name": "luna@q4", "workers": 2, "price_range": price}]
    models += [{"name": "moth@q4", "workers": 0, "price_range": None}]
    operator.models = lambda: {"schema": "tussah/models/1", "models": models}
    operator.status = stand
    operator.pieces = list(ANSWER)
    scripted(lambda: [chosen, offered, progress, *_pieces(operator.pieces), done])
    return api


@pytest.fixture
def scripted(api):
    def use(make):
        answer = api.operator.answer

        def again(request, wish):
            api.operator.script = make()
            return answer(request, wish)

        api.operator.answer = again

    return use


def _pieces(texts):
    return [
        None if text is None else Piece(first=at, ids=(at,), text=text, channel=0)
        for at, text in enumerate(texts)
    ]


@pytest.fixture(scope="module")
def browser():
    """A browser in a thread of its own, and what runs in that thread."""
    from playwright.sync_api import sync_playwright

    with ThreadPoolExecutor(1) as thread:
        playwright = thread.submit(sync_playwright().start).result()
        launch = partial(
            playwright.chromium.launch, executable_path=CHROMIUM, args=["--no-sandbox"]
        )
        started = thread.submit(launch).result()
        yield thread, started
        thread.submit(started.close).result()
        thread.submit(playwright.stop).result()


@pytest.fixture
def visit(browser, town):
    """Runs a visitor with the page before it, and sees that nothing else is loaded or wrong."""
    thread, started = browser

    def visiting(visitor, *, key=KEY, width=1280, height=860, scheme="light"):
        wrong, home = [], f"http://127.0.0.1:{town.port}/"
        size = {"width": width, "height": height}
        with closing(started.new_context(viewport=size, color_scheme=scheme)) as context:
            page = context.new_page()
            page.set_default_timeout(20_000)
            page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on("request", lambda r: None if ours(r.url, home) else wrong.append(r.url))
            page.goto(f"{home}#k={key}" if key else home)
            visitor(page)
        assert wrong == []

    async def visit(visitor, **how):
        done = thread.submit(partial(visiting, visitor, **how))
        with trio.fail_after(60):
            await trio.to_thread.run_sync(done.result, abandon_on_cancel=True)

    return visit


def ours(url, home):
    return url.startswith((home, "data:"))


def ask(page, question=QUESTION):
    page.fill("#prompt", question)
    page.press("#prompt", "Enter")


def overflow(page):
    """Whether anything can be scrolled sideways."""
    return page.evaluate(
        "[document.documentElement, ...document.querySelectorAll('main, section, form')]"
        ".filter((e) => e.scrollWidth > e.clientWidth + 1).map((e) => e.id || e.tagName)"
    )


async def test_an_answer_streams_in_with_its_cost_and_who_knows_what(town, visit):
    def visitor(page):
        assert page.url.endswith("/")  # the key is out of sight
        ask(page)
        page.wait_for_selector("#talk .cost")
        assert page.inner_text("#talk .text") == "".join(ANSWER)
        assert "0.0072 TON" in page.inner_text("#talk .cost")
        rows = page.locator("#knows tbody tr").evaluate_all(KNOWLEDGE)
        assert rows == [
            ["your network", "yes", "part", "no", "no"],
            ["guard", "yes", "yes", "no", "no"],
            ["relay 2", "no", "part", "no", "no"],
            ["relay 3", "no", "part", "no", "no"],
            ["worker", "no", "part", "yes", "yes"],
            ["mint", "no", "no", "no", "part"],
        ]
        assert page.locator("#map line").count() == 4
        names = page.locator("#map svg text").all_text_contents()
        assert names == ["guard", "2", "3", "worker"]
        assert page.locator("#map .silent title").text_content() == "relay 404040, silent of late"
        assert "21 relays, 6 workers" in page.inner_text("#network")
        assert "0.7923 TON" in page.inner_text("#money")
        assert overflow(page) == []

    await visit(visitor)
    request, wish = town.operator.asked[0]
    assert (request.messages[-1].content, wish.relays) == (QUESTION, 3)
    assert (wish.shaping, wish.swift) == (1, False)


async def test_how_well_to_hide_is_chosen_with_what_it_costs_and_among_whom(town, visit):
    def visitor(page):
        page.locator("#level", has_text="even rate").wait_for()
        page.locator("#level", has_text="among 84 clients").wait_for()
        assert "one of 6 workers" in page.inner_text("#level")
        options = page.locator("#model option").all_text_contents()
        assert options == ["auto", "luna@q4 · 0.05 TON a thousand tokens", "moth@q4"]
        page.select_option("#model", "luna@q4")
        assert "one of 2 workers" in page.inner_text("#level")
        page.select_option("#privacy", "none")
        assert page.inner_text("#level").startswith("The worker sees your address")
        assert "one of" not in page.inner_text("#level")
        ask(page)
        page.wait_for_selector("#talk .cost")

    await visit(visitor)
    ((request, wish),) = town.operator.asked
    assert (request.model, wish.relays, wish.shaping) == ("luna@q4", 0, 0)


async def test_a_worker_is_paused_and_goes_on(town, visit):
    town.operator.serving = dict(WORKER)

    def visitor(page):
        page.wait_for_selector("#work-state")
        assert page.inner_text("#work-state") == "serving"
        assert "smollm2-135m" in page.inner_text("#work")
        assert page.is_disabled("#resume")
        town.operator.serving |= {"state": "paused", "reasons": ["paused by hand"]}
        page.click("#pause")
        page.locator("#work-reasons", has_text="paused by hand").wait_for()
        assert page.is_disabled("#pause")
        town.operator.serving |= {"state": "serving", "reasons": []}
        page.click("#resume")
        page.locator("#work-state", has_text="serving").wait_for()
        assert "earned with" in page.inner_text("#earned")
        assert page.locator("#earned rect").count() == 2
        assert overflow(page) == []

    await visit(visitor)
    assert town.operator.orders == [("pause", 3_600.0), ("resume", None)]


async def test_coins_are_added_by_a_code_that_wallets_read(town, visit, funds):
    def visitor(page):
        assert page.is_hidden("#work")
        page.click("#deposit summary")
        page.wait_for_selector("#deposit .qr path")
        assert page.inner_text("#address") == funds.address
        assert page.get_attribute("#link", "href") == f"ton://transfer/{funds.address}"
        assert "worth nothing" in page.inner_text("#deposit-note")
        drawn = page.get_attribute("#deposit .qr path", "d")
        assert drawn.count("M") == sum(row.count("1") for row in twins.squares(LINK))

    link = f"ton://transfer/{funds.address}"
    assert link == LINK
    await visit(visitor)


async def test_a_conversation_is_sent_whole_and_forgotten_when_told(town, visit):
    def visitor(page):
        ask(page)
        page.wait_for_selector("#talk .cost")
        ask(page, "And the moth?")
        page.locator("#talk .cost").nth(1).wait_for()
        page.click("#fresh")
        page.locator("#ideas button").first.click()  # a question to begin with
        page.wait_for_selector("#talk .cost")
        assert page.is_hidden("#ideas")

    await visit(visitor)
    lengths = [len(request.messages) for request, _ in town.operator.asked]
    assert lengths == [1, 3, 1]
    assert town.operator.asked[-1][0].messages[0].content == "Name three moths that spin silk."


async def test_what_a_worker_writes_is_text(town, visit):
    town.operator.pieces = [HOSTILE]

    def visitor(page):
        ask(page, HOSTILE)
        page.wait_for_selector("#talk .cost")
        assert page.inner_text("#talk .text") == HOSTILE
        assert page.locator("#talk img").count() == 0
        assert page.title() == "Tussah"

    await visit(visitor)


async def test_stop_ends_the_ask_at_the_worker(town, visit):
    town.operator.pieces = ["Tussah", None]

    def visitor(page):
        ask(page)
        page.locator("#talk .text", has_text="Tussah").wait_for()
        page.click("#stop")
        page.wait_for_selector("#talk p.fine")
        assert "comes back" in page.inner_text("#talk p.fine")
        assert page.is_visible("#send")

    await visit(visitor)
    with trio.fail_after(30):
        await town.operator.ended.wait()


async def test_a_refusal_is_said_and_the_question_can_be_asked_again(visit, scripted):
    def refuse():
        raise Failed("price_above_cap", "Every offer is above your cap.", "Raise it.")

    scripted(refuse)

    def visitor(page):
        ask(page)
        assert page.inner_text("#talk .error") == "Every offer is above your cap. Raise it."

    # a refusal is a status, which a browser's console reports
    with pytest.raises(AssertionError, match="402"):
        await visit(visitor)


async def test_without_a_key_the_page_asks_for_it(visit):
    def visitor(page):
        page.fill("#key", KEY)
        page.press("#key", "Enter")
        page.locator("#network", has_text="moths").wait_for()
        assert page.evaluate("document.cookie + JSON.stringify(localStorage)") == "{}"

    await visit(visitor, key=None)


async def test_alerts_say_what_to_do(town, visit):
    town.operator.alerts = [{"code": "x", "message": "The clock is wrong.", "advice": "Set it."}]

    def visitor(page):
        page.wait_for_selector("#alerts li")
        assert page.inner_text("#alerts li") == "The clock is wrong. Set it."

    await visit(visitor)


@pytest.mark.parametrize(
    ("name", "width", "height", "scheme"),
    [("phone", 360, 740, "light"), ("light", 1280, 860, "light"), ("dark", 1280, 860, "dark")],
)
async def test_it_fits_every_screen(town, visit, name, width, height, scheme):
    town.operator.serving = dict(WORKER)

    def visitor(page):
        ask(page)
        page.wait_for_selector("#talk .cost")
        page.wait_for_selector("#map line", state="attached")
        assert overflow(page) == []
        if os.environ.get("UPDATE_SCREENSHOTS"):
            PICTURES.mkdir(exist_ok=True)
            page.screenshot(path=PICTURES / f"page-{name}.png")
        for pane in ("map", "knows", "work", "money") if width < 960 else ():
            page.click(f"nav button[data-pane={pane}]")
            assert page.is_visible(f"#{pane}")
            assert overflow(page) == []

    await visit(visitor, width=width, height=height, scheme=scheme)


async def test_the_page_may_load_and_call_nothing_else(api):
    async with api.http(authorization="") as client:
        for path in ("/", "/page.js", "/page.css"):
            response = await client.get(path)
            policy = response.headers["content-security-policy"]
            assert response.status_code == 200
            assert "default-src 'none'" in policy
            assert "connect-src 'self'" in policy
            assert "unsafe" not in policy
            assert "http:" not in policy
