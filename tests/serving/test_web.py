# SPDX-License-Identifier: Apache-2.0
"""The page, in headless Chromium: type, stream, stop, switch, compare, look inside; hostile text is text.

Slow models of two layers make it possible to see an answer while it forms.
"""

import gc
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scratch_gpt import cli
from scratch_gpt.inference.sampling import Sampling
from scratch_gpt.serving.chat import StreamingModel
from scratch_gpt.serving.listening import listen
from wording import user_error


HOSTILE = (
    "<b>bold</b> <script>document.title='taken'</script>\n<img src=x onerror=\"document.title='taken'\"> &lt; **md** `c` "
    "$$x^2$$ [a](javascript:alert(1)) <think>t</think> ${1+1} {{value}} <|im_end|> \u202e مرحبا Привет 🐝 你好"
)
# As if pasted: typing key by key knows the basic plane only, and takes minutes for 100 kB.
PASTE = """
const set = Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, 'value').set;
set.call(arguments[0], arguments[1]);
arguments[0].dispatchEvent(new Event('input', {bubbles: true}));
"""
WAIT_SECONDS = 20

# Gradio leaves event loops of its threads unclosed, and sets an option that pandas 3 calls old.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore:'future.no_silent_downcasting' is deprecated",
    "ignore:The copy keyword is deprecated",
)


@pytest.fixture
def web():
    """The package; without its packages these tests are skipped."""
    pytest.importorskip("gradio", reason="needs the packages of scratch-gpt[web]")
    from scratch_gpt.serving import web

    return web


@pytest.fixture
def models(chat_folder: Path) -> list[StreamingModel]:
    """Two chat models of the same weights that always say 60 tokens."""
    both = [StreamingModel.load(str(chat_folder)) for _ in range(2)]
    both[1].name = "other"
    for streaming in both:
        streaming.model.generation_config.update(
            do_sample=True, temperature=1.0, max_new_tokens=60, eos_token_id=None
        )
    return both


@pytest.fixture
def page_at(web) -> Iterator:
    """`page_at(models)`: the address of the page, served by a thread."""
    import uvicorn

    running = []

    def start(models: list[StreamingModel]) -> str:
        listener = listen("localhost", 0)
        server = uvicorn.Server(
            uvicorn.Config(web.make_web_app(models), log_level="error", timeout_graceful_shutdown=1)
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        running.append((server, thread, listener))
        return f"http://localhost:{listener.getsockname()[1]}/"

    yield start
    for server, thread, listener in running:
        server.should_exit = True
        thread.join()
        listener.close()
    gc.collect()  # so that they are found here, and not in a test that takes warnings for errors


class Window:
    """The open page: what the tests do in it."""

    def __init__(self, browser: Any, address: str) -> None:
        self.browser = browser
        browser.get_log("browser")  # of the page before
        browser.get(address)
        self.until(lambda: self.all("#chat-message textarea, #completion-text textarea"))

    def all(self, selector: str) -> list[Any]:
        return self.browser.find_elements("css selector", selector)

    def one(self, selector: str) -> Any:
        return self.until(lambda: self.all(selector))[0]

    def until(self, condition) -> Any:
        """The condition's first true value."""
        end = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < end:
            if value := condition():
                return value
            time.sleep(0.05)
        raise AssertionError(
            f"not within {WAIT_SECONDS} s: {self.browser.find_element('css selector', 'body').text}"
        )

    def tab(self, name: str) -> None:
        next(tab for tab in self.all("button[role=tab]") if tab.text == name).click()

    def joined(self, selector: str) -> str:
        """The texts of some elements, by one script."""
        script = "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent).join('')"
        return self.browser.execute_script(script, selector)

    def paste(self, selector: str, text: str) -> None:
        self.browser.execute_script(PASTE, self.one(selector), text)

    def click(self, selector: str) -> None:
        self.one(selector).click()

    def said(self) -> list[str]:
        """The texts of the conversation, by one script: between two calls the page may draw them anew."""
        return self.browser.execute_script(
            "return [...document.querySelectorAll('#chat .message.user, #chat .message.bot')]"
            ".map(message => message.textContent.trim())"
        )

    def asked(self, message: str) -> None:
        self.paste("#chat-message textarea", message)
        self.click("#chat-send")


def slowed(models: list[StreamingModel], seconds: float) -> None:
    for streaming in models:
        streaming.model.register_forward_hook(lambda *_: time.sleep(seconds))


def test_type_stream_stop_and_go_on(browser, page_at, models) -> None:
    """Enter sends; the answer grows; Stop ends it and the model; the conversation goes on."""
    slowed(models[:1], 0.05)  # 60 tokens: 3 s
    window = Window(browser, page_at(models[:1]))
    window.one("#chat-message textarea").send_keys("Hello\n")
    window.until(lambda: len(window.said()) == 2 and window.said()[1])
    early = window.said()[1]
    window.until(lambda: len(window.said()[1]) > len(early))
    assert window.one("#chat-message textarea").get_attribute("value") == ""
    said_by = models[0].num_said
    assert said_by < 60
    window.click("#chat-stop")
    window.until(lambda: not [thread for thread in threading.enumerate() if "generate" in thread.name])
    stopped = models[0].num_said
    assert stopped < 60
    models[0].model._forward_hooks.clear()
    window.asked("And?")
    window.until(lambda: len(window.said()) == 4 and models[0].num_said == 60)
    assert window.said()[0] == "Hello"
    assert window.said()[1].startswith(early)


def test_hostile_text_is_shown_as_text(browser, page_at, models, monkeypatch) -> None:
    """Markup, scripts, templates and special tokens, the user's and the model's, stand as text; nothing is fetched."""
    monkeypatch.setattr(StreamingModel, "stream", lambda *_: (piece for piece in HOSTILE))
    models[0].context = 4096  # never run so far, but it lets the text through
    window = Window(browser, page_at(models))
    window.asked(HOSTILE)
    same = [" ".join(HOSTILE.split())] * 2
    window.until(lambda: [" ".join(text.split()) for text in window.said()] == same)
    for tab, box, labels in (
        ("Tokens", "#tokens-text", "#tokens-drawing b"),
        ("Attention", "#attention-text", "#attention-table th[scope=row]"),
    ):
        window.tab(tab)
        window.paste(f"{box} textarea", "</th><script>1</script>${1+1}{{value}}")
        window.until(lambda: window.joined(labels) == "</th><script>1</script>${1+1}{{value}}")  # noqa: B023
    window.tab("Next token")
    window.paste("#completion-text textarea", HOSTILE[:100])
    window.until(lambda: "%" in window.one("#completion-tokens").text)
    assert browser.title == "chat and other"
    resources = "return performance.getEntriesByType('resource').map(entry => entry.name)"
    assert [
        name for name in browser.execute_script(resources) if not name.startswith(browser.current_url)
    ] == []
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_five_scripts_come_back_on_the_page(
    browser, page_at, polyglot_folder: Path, conversations: dict[str, str]
) -> None:
    """Typed, answered by a model that knows them by heart, and shown, byte for byte; token labels are readable."""
    window = Window(browser, page_at([StreamingModel.load(str(polyglot_folder))]))
    for question, answer in conversations.items():
        window.asked(question)
        window.until(lambda: window.said() == [question, answer])  # noqa: B023
        window.click("#chat-reset")
        window.until(lambda: not window.said())
    window.tab("Attention")
    window.paste("#attention-text textarea", "Ключ 钥匙")
    window.until(lambda: window.joined("#attention-table th[scope=row]") == "<D0><9A>люч␣钥匙")


def test_a_paste_that_is_too_long_is_refused_with_a_line(browser, page_at, models) -> None:
    """100 kB, and what the context cannot hold: a notice, the text stays to be shortened, the page works on."""
    window = Window(browser, page_at(models))
    window.asked("x" * 100_000)
    window.until(
        lambda: "that text has 100000 characters" in browser.find_element("css selector", "body").text
    )
    window.asked("7 " * 500)
    window.until(lambda: "that message is " in browser.find_element("css selector", "body").text)
    assert window.one("#chat-message textarea").get_attribute("value") == "7 " * 500
    window.asked("Hello")
    window.until(lambda: len(window.said()) == 2)


def test_switch_the_model_and_compare(browser, page_at, models) -> None:
    """The chosen model answers; side by side, each answers the same message."""
    window = Window(browser, page_at(models))
    window.asked("Hello")
    window.until(lambda: models[0].num_said == 60)
    assert models[1].num_said == 0
    window.click("#chat-model input")
    # an option has no text before it is drawn
    options = window.until(
        lambda: [option for option in window.all("[role=option]") if option.text.strip().endswith("other")]
    )
    options[0].click()
    window.asked("Hello")
    window.until(lambda: models[1].num_said == 60)
    models[0].num_said = models[1].num_said = 0
    window.tab("Side by side")
    window.paste("#compare-message textarea", "Hello")
    window.click("#compare-send")
    window.until(lambda: models[0].num_said == models[1].num_said == 60)


def test_a_base_model_has_no_chat(browser, page_at, base_folder: Path) -> None:
    """It continues a text, and the probabilities of the next token add up to at most 1."""
    base = StreamingModel.load(str(base_folder))
    base.model.generation_config.update(do_sample=False, max_new_tokens=8)
    window = Window(browser, page_at([base]))
    tabs = [tab.text for tab in window.all("button[role=tab]")]
    assert tabs == ["Next token", "Side by side", "Tokens", "Attention"]
    window.paste("#completion-text textarea", "Once upon")
    window.click("#completion-go")
    expected = "Once upon" + "".join(base.complete("Once upon", Sampling.of(base.model.generation_config)))
    window.until(lambda: window.one("#completion-text textarea").get_attribute("value") == expected)
    # greedy: the likeliest token is drawn, whatever the model finds of the others
    cells = window.joined("#completion-tokens td")
    shares = [float(number) for number in re.findall(r"([\d.]+)%", cells)]
    assert shares[::2] == [100.0] + [0.0] * 9
    assert shares[1::2] == sorted(shares[1::2], reverse=True)
    assert 0 < sum(shares[1::2]) <= 101


def test_no_network_is_asked_for(page_at, models, monkeypatch) -> None:
    """Building and serving the page connects to this machine only; its policy keeps the browser there too."""
    connected = []
    connect = socket.socket.connect
    monkeypatch.setattr(
        socket.socket, "connect", lambda self, address: (connected.append(address), connect(self, address))[1]
    )
    with urllib.request.urlopen(page_at(models)) as answer:
        policy, body = answer.headers["Content-Security-Policy"], answer.read().decode()
    assert "default-src 'self'" in policy
    assert "fonts.googleapis.com" not in body
    assert {address[0] for address in connected if isinstance(address, tuple)} <= {
        "127.0.0.1",
        "::1",
        "localhost",
    }


def test_two_models_of_one_name_are_refused(web, models) -> None:
    """The page could not tell them apart; three are too many."""
    with user_error("duplicate_name", name="chat"):
        web.make_web_app([models[0], models[0]])
    with user_error("too_many_models", count=3):
        cli.web(["a", "b", "c"])


# Of an element that people see: what is wider than the window, cut off, without a name, empty, or too pale to read (WCAG 2).
FAULTS = """
const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const painted = colors => {
  canvas.clearRect(0, 0, 1, 1);
  colors.forEach(color => { canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); });
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const behind = e => e ? [...behind(e.parentElement), getComputedStyle(e).backgroundColor] : ['white'];
const light = color => painted(color).slice(0, 3)
  .map(part => (part /= 255) <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
  .reduce((sum, part, number) => sum + part * [0.2126, 0.7152, 0.0722][number], 0.05);
const contrast = (e, color) => {
  const [low, high] = [light(behind(e)), light([...behind(e), color])].sort((a, b) => a - b);
  return high / low;
};
const inks = e => [
  ...([...e.childNodes].some(node => node.nodeType === 3 && node.data.trim()) ? [getComputedStyle(e).color] : []),
  ...(e.placeholder && !e.value ? [getComputedStyle(e, '::placeholder').color] : []),
];
const seen = e => e.checkVisibility({visibilityProperty: true, opacityProperty: true});
const all = [...document.querySelectorAll('.gradio-container *')].filter(seen);
const named = e => e.getAttribute('aria-label') || (e.labels && [...e.labels].some(label => label.textContent.trim()));
const scrolls = e => e.closest('.attention');
const panel = [...document.querySelectorAll('[role=tabpanel]')].filter(seen);
return [
  ...(document.documentElement.scrollWidth > innerWidth ? ['the page is wider than the window'] : []),
  ...all.filter(e => !scrolls(e) && e.getBoundingClientRect().right > innerWidth + 1).map(e => 'beyond the edge: ' + e.outerHTML.slice(0, 200)),
  ...all.filter(e => getComputedStyle(e).textOverflow === 'ellipsis' && e.scrollWidth > e.clientWidth).map(e => 'cut: ' + e.textContent),
  ...all.filter(e => e.matches('input, textarea, select') && !named(e)).map(e => 'no label: ' + e.outerHTML.slice(0, 200)),
  ...all.filter(e => e.matches('button') && !named(e) && !e.textContent.trim() && !e.title).map(e => 'no name: ' + e.outerHTML.slice(0, 200)),
  ...all.flatMap(e => inks(e).filter(ink => contrast(e, ink) < 4.5).map(ink => `pale: ${ink} of ` + e.outerHTML.slice(0, 200))),
  ...all.filter(e => e.matches('textarea') && !e.value && !e.placeholder).map(e => 'blank: ' + e.outerHTML.slice(0, 200)),
  ...(panel.length === 1 && panel[0].innerText.trim().length > 60 ? [] : ['an empty tab']),
  ...(document.body.innerText.includes('\u2026') ? ['a text that ends in an ellipsis'] : []),
];
"""


@pytest.mark.slow
def test_every_tab_fits_a_phone_and_a_desk_by_day_and_by_night(browser, page_at, models) -> None:
    """At 390 and 1280 pixels, light and dark: nothing cut, nothing wider than the window, nothing blank, pale or unnamed."""
    models[0].questions = [
        "Sam likes cake. Ben likes honey. Lucy likes soup, and Ella rice. What does Ben like?",
        "Hello",
    ]
    address = page_at(models)
    try:
        for width, scheme in ((390, "light"), (1280, "light"), (390, "dark"), (1280, "dark")):
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
            window = Window(browser, address)
            colors = "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
            assert (sum(browser.execute_script(colors)[:3]) < 200) == (scheme == "dark")
            bottom = "return document.querySelector('#chat-message').getBoundingClientRect().bottom"
            assert browser.execute_script(bottom) < 900, "to type a message, nobody scrolls"
            for tab in ("Chat", "Side by side", "Tokens", "Next token", "Attention"):
                window.tab(tab)
                for folded in window.all("[role=tabpanel] button.label-wrap:not(.open)"):
                    if folded.is_displayed():
                        folded.click()
                time.sleep(0.5)  # what unfolds moves
                assert browser.execute_script(FAULTS) == [], (width, scheme, tab)
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.slow
@pytest.mark.parametrize("way", ["command", "space"])
def test_ready_means_ready(way: str, web, chat_folder: Path, tmp_path: Path) -> None:
    """What says "ready" answers the first request, from a Space's folder too, without the Hub; Ctrl-C ends it with 0."""
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    environment |= {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": "http://127.0.0.1:9"}
    command, folder = [sys.executable, "-m", "scratch_gpt.cli", "web", str(chat_folder), "--port", "0"], None
    if way == "space":
        cli.web([str(chat_folder)], space=str(tmp_path / "space"))
        folder = tmp_path / "space"
        app = (folder / "app.py").read_text()
        (folder / "app.py").write_text(app.replace("port=7860", "port=0").replace("0.0.0.0", "localhost"))
        command = [sys.executable, "app.py"]
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=folder
    )
    try:
        line = server.stdout.readline()
        assert line.startswith("ready: http://localhost:"), line
        with urllib.request.urlopen(line.split()[1], timeout=60) as answer:
            assert answer.status == 200
        foreign = urllib.request.Request(line.split()[1], headers={"Host": "evil.com"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(foreign, timeout=60)
        server.send_signal(signal.SIGINT)
        _, log = server.communicate(timeout=30)
        assert server.returncode == 0, log
        assert "Traceback" not in log
    finally:
        server.kill()
        server.communicate()
