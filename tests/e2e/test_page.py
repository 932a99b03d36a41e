"""The page at `/`, used in a real browser against a real service."""

import base64
import hashlib
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Route, expect, sync_playwright

from tests.e2e.processes import GOLDEN, ROOT, ServiceProcess, add_digits, running_service
from tests.e2e.strokes import SHAPES, DrawnDigit, draw

expect.set_options(timeout=20_000)

QUICKLY = ("--max-batch-size", "1")  # there is less to measure at start

# Hands the page a File as a browser does when one is dropped or pasted.
_GIVE = """({kind, files}) => {
    const data = new DataTransfer();
    for (const [name, bytes] of Object.entries(files))
        data.items.add(new File([Uint8Array.from(atob(bytes), c => c.charCodeAt(0))], name));
    const event = kind === "paste" ? new ClipboardEvent("paste", {clipboardData: data, bubbles: true, cancelable: true})
        : new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true});
    document.body.dispatchEvent(event);
}"""


@pytest.fixture(scope="module")
def service() -> Iterator[ServiceProcess]:
    with running_service(*QUICKLY) as service:
        yield service


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, service: ServiceProcess, **options: object) -> Iterator[Page]:
    """The page in a fresh profile. Afterwards: it asked its own origin alone, threw nothing, and kept its policy."""
    context = browser.new_context(**options)
    page = context.new_page()
    addresses: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: addresses.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))

    def on_console(message: ConsoleMessage) -> None:
        # What the network refuses the browser logs by itself; the tests cause it on purpose.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            errors.append(message.text)

    page.on("console", on_console)
    page.goto(f"{service.url}/")
    try:
        yield page
    finally:
        context.close()
    assert errors == []
    own = (f"{service.url}/", f"blob:{service.url}/")
    assert [address for address in addresses if not address.startswith(own)] == []
    assert addresses


@pytest.fixture
def page(browser: Browser, service: ServiceProcess) -> Iterator[Page]:
    with opened(browser, service) as page:
        expect(page.locator("#readiness")).to_have_text("ready")
        yield page


def draw_on(page: Page, digit: DrawnDigit) -> None:
    pad = page.locator("#pad").bounding_box()
    assert pad
    for stroke in digit.strokes:
        points = [(pad["x"] + x / 100 * pad["width"], pad["y"] + y / 100 * pad["height"]) for x, y in stroke]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in [*points[4:-1:4], points[-1]]:
            page.mouse.move(*point)
        page.mouse.up()


def choose(page: Page, file: str) -> None:
    page.set_input_files("#file", GOLDEN / file)


def give(page: Page, kind: str, *names: str) -> None:
    files = {name: base64.b64encode((GOLDEN / name).read_bytes()).decode() for name in names}
    page.evaluate(_GIVE, {"kind": kind, "files": files})


def test_a_drawn_digit_is_named_when_the_pen_rests(page: Page) -> None:
    expect(page.locator("#nothing")).to_be_visible()
    for label in "275":
        draw_on(page, draw(label, 0, 0))
        expect(page.locator("#best-label")).to_have_text(label)
        expect(page.locator("#spoken")).to_contain_text(f"{label}, ")
        page.get_by_role("button", name="Clear").click()
        expect(page.locator("#nothing")).to_be_visible()


def test_the_answer_has_bars_and_a_timeline(page: Page) -> None:
    draw_on(page, draw("3", 0, 0))
    rows = page.get_by_role("list", name="Predictions, best first").get_by_role("listitem")
    expect(rows).to_have_count(5)
    probabilities = [float(text.removesuffix(" %")) for text in rows.locator(".probability").all_inner_texts()]
    assert probabilities == sorted(probabilities, reverse=True)
    assert page.locator(".timeline tbody th").all_inner_texts() == [
        "network and browser", "receive the upload", "decode and resize", "queue for the engine",
        "infer the model", "post softmax, labels", "rest of the service",
    ]  # fmt: skip
    *steps, total = [float(text.removesuffix(" ms")) for text in page.locator(".timeline .ms").all_inner_texts()]
    assert total == pytest.approx(sum(steps), abs=0.05)


def test_undo_takes_the_last_stroke_back(page: Page) -> None:
    draw_on(page, draw("1", 0, 0))
    expect(page.locator("#best-label")).to_have_text("1")
    draw_on(page, draw("0", 1, 0))
    expect(page.locator("#pad path")).to_have_count(2)
    page.keyboard.press("Control+z")
    expect(page.locator("#pad path")).to_have_count(1)
    expect(page.locator("#best-label")).to_have_text("1")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#nothing")).to_be_visible()
    expect(page.get_by_role("button", name="Undo")).to_be_disabled()
    expect(page.get_by_role("radio", name="Draw")).to_be_focused()


def test_drawn_digits_are_sent_as_the_training_images_look(page: Page) -> None:
    """Of 160 drawings, four of each shape; as drawn, fewer than half would be named."""
    drawn = [
        draw(label, shape, n) for label, shapes in SHAPES.items() for shape in range(len(shapes)) for n in range(4)
    ]
    named = page.evaluate(
        """async (drawings) => {
            const {likeTraining} = await import("./page/pen_image.js");
            const named = [];
            for (const strokes of drawings) {
                const body = await likeTraining(strokes);
                const response = await fetch("v1/classify?top_k=1", {method: "POST", body});
                named.push((await response.json()).predictions[0].label);
            }
            return named;
        }""",
        [digit.strokes for digit in drawn],
    )
    wrong = [(digit.label, digit.shape, name) for digit, name in zip(drawn, named, strict=True) if digit.label != name]
    assert len(wrong) <= len(drawn) // 20, wrong


def test_a_chosen_file_and_several_dropped(page: Page) -> None:
    choose(page, "digit-8.png")
    expect(page.locator("#best-label")).to_have_text("8")
    expect(page.locator("#preview")).to_be_visible()
    expect(page.locator("#sent-as")).to_have_text("128 × 128 PNG")
    give(page, "drop", "digit-3.png", "digit-4.png", "../labels.txt")
    expect(page.locator("#best-label")).to_have_text("3")
    expect(page.locator("#file-note")).to_have_text("digit-3.png, the first of 3")
    expect(page.locator("#several-spoken")).to_contain_text("Finished: 3 of 3, 1 without an answer")
    expect(page.locator("#grid .label")).to_have_text(["3", "4", "no answer"])
    expect(page.locator("#grid .detail").last).to_contain_text("415 unsupported_image")
    page.locator("#grid button").nth(1).click()
    expect(page.locator("#best-label")).to_have_text("4")
    expect(page.locator("#several")).to_be_visible()
    choose(page, "digit-5.png")
    expect(page.locator("#several")).to_be_hidden()


def test_several_that_are_refused_for_want_of_room_are_sent_again(page: Page) -> None:
    refusal = {"error": {"code": "over_capacity", "message": "later"}}
    refused: list[Route] = []

    def full_at_first(route: Route) -> None:
        if len(refused) < 3:
            refused.append(route)
            route.fulfill(status=429, json=refusal, headers={"retry-after": "0"})
        else:
            route.continue_()

    page.route("**/v1/classify*", full_at_first)
    give(page, "drop", "digit-0.png", "digit-1.png", "digit-2.png", "digit-3.png")
    expect(page.locator("#grid .label")).to_have_text(["0", "1", "2", "3"])
    assert len(refused) == 3


def test_a_sample_is_classified_and_the_command_names_the_model(page: Page, service: ServiceProcess) -> None:
    expect(page.locator("#samples button")).to_have_count(10)
    page.get_by_role("button", name="sample 4").click()
    expect(page.locator("#best-label")).to_have_text("3")
    command = f"curl --data-binary @image.png '{service.url}/v1/classify?model=digits&version=1'"
    expect(page.locator("#curl")).to_have_text(command)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy").click()
    expect(page.locator("#copied")).to_have_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == command


def test_a_burst_shows_its_rate_its_latencies_and_what_became_of_the_images(page: Page) -> None:
    page.get_by_label("Images", exact=True).fill("20")
    page.get_by_label("in a request").select_option("8")
    page.get_by_role("button", name="Fire").click()
    expect(page.locator("#burst-told")).to_have_text("Finished: 20 answered, 0 refused, 0 failed.")  # of a sample
    assert float(page.locator("#burst-rate").inner_text()) > 0
    assert float(page.locator("#burst-p50").inner_text()) <= float(page.locator("#burst-p99").inner_text())
    assert page.locator("#burst-curve path").get_attribute("d")
    page.route("**/v1/classify*", lambda route: route.fulfill(status=429, json={}))
    page.get_by_label("in a request").select_option("1")
    page.get_by_role("button", name="Fire").click()
    expect(page.locator("#burst-told")).to_have_text("Finished: 0 answered, 20 refused, 0 failed.")
    expect(page.locator("#burst-refused")).to_have_text("20")


def test_the_patches_that_matter_are_shown_by_ordinary_requests(page: Page) -> None:
    """Of a picture whose answer hangs on its left half alone: the service is played, to have an obvious map."""

    def answer(route: Route) -> None:
        images = (route.request.post_data_buffer or b"").count(b'name="image"')
        certain = [0.25 if patch == 9 and images == 64 else 0.75 for patch in range(images)]
        results = [{"predictions": [{"index": 7, "label": "7", "probability": each}]} for each in certain]
        route.fulfill(json={"results": results} if images > 1 else results[0])

    choose(page, "digit-7.png")
    expect(page.locator("#best-label")).to_have_text("7")
    page.route("**/v1/classify*", answer)
    button = page.get_by_role("button", name="Which parts mattered?")
    button.click()
    told = page.locator("#importance-told")
    expect(told).to_have_text(
        "Without row 2, column 2 of 8 × 8, “7” falls from 75.0 % to 25.0 %: the patch that matters most."
    )
    shown = page.locator("#importance-map rect").evaluate_all(
        "all => all.map(each => +each.getAttribute('fill-opacity'))"
    )
    assert [patch for patch, opacity in enumerate(shown) if opacity] == [9]
    page.unroute_all()
    button.click()
    expect(told).to_contain_text("of 8 × 8")
    choose(page, "digit-1.png")
    expect(page.locator("#importance")).to_be_hidden()


def test_paste_and_drop(page: Page) -> None:
    give(page, "paste", "digit-6.png")
    expect(page.locator("#best-label")).to_have_text("6")
    give(page, "drop", "digit-9.png")
    expect(page.locator("#best-label")).to_have_text("9")
    give(page, "paste")
    expect(page.get_by_role("alert")).to_have_text("The clipboard holds no image.")
    expect(page.locator("#result")).to_be_hidden()


def test_a_bad_file_is_refused_in_a_sentence_and_forgotten_with_the_next(page: Page) -> None:
    page.set_input_files("#file", ROOT / "README.md")
    expect(page.get_by_role("alert")).to_contain_text("415 unsupported_image: not an accepted image format")
    expect(page.locator("#result")).to_be_hidden()
    choose(page, "digit-2.png")
    expect(page.locator("#best-label")).to_have_text("2")
    expect(page.locator("#problem")).to_be_hidden()


def test_a_newer_image_supersedes_the_older(page: Page) -> None:
    held: list[Route] = []
    page.route("**/v1/classify*", lambda route: route.continue_() if held else held.append(route))
    choose(page, "digit-1.png")
    expect(page.locator("#answer")).to_have_attribute("aria-busy", "true")
    with page.expect_event("requestfailed") as failed:
        choose(page, "digit-2.png")
    assert failed.value.failure == "net::ERR_ABORTED"
    expect(page.locator("#best-label")).to_have_text("2")
    expect(page.locator("#answer")).to_have_attribute("aria-busy", "false")


def test_a_paste_of_nothing_ends_what_is_underway(page: Page) -> None:
    page.route("**/v1/classify*", lambda route: None)
    choose(page, "digit-1.png")
    expect(page.locator("#answer")).to_have_attribute("aria-busy", "true")
    with page.expect_event("requestfailed"):
        give(page, "paste")
    expect(page.locator("#answer")).to_have_attribute("aria-busy", "false")
    expect(page.get_by_role("alert")).to_have_text("The clipboard holds no image.")


def test_a_picture_overtakes_the_drawing_before_it_is_sent(page: Page) -> None:
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.method))
    page.clock.install()
    draw_on(page, draw("1", 0, 0))
    choose(page, "digit-8.png")
    page.clock.run_for(1000)
    expect(page.locator("#best-label")).to_have_text("8")
    give(page, "paste", "digit-6.png")
    expect(page.locator("#best-label")).to_have_text("6")
    assert sent.count("POST") == 2


def test_the_service_s_throughput_is_shown(page: Page) -> None:
    choose(page, "digit-1.png")
    expect(page.locator("#best-label")).to_have_text("1")
    expect(page.locator("#rate")).not_to_have_text("0.00")


def test_dark_as_the_system_has_it_or_as_the_button_says(browser: Browser, service: ServiceProcess) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light, dark = "rgb(244, 242, 236)", "rgb(17, 21, 26)"
    with opened(browser, service, color_scheme="dark") as page:
        button = page.get_by_role("button", name="Dark")
        expect(button).to_have_attribute("aria-pressed", "true")
        assert page.evaluate(ground) == dark
        button.click()
        expect(button).to_have_attribute("aria-pressed", "false")
        page.reload()
        assert page.evaluate(ground) == light
    with opened(browser, service, color_scheme="light") as page:
        assert page.evaluate(ground) == light


def test_the_keyboard_reaches_everything_in_order(page: Page) -> None:
    draw_on(page, draw("1", 0, 0))
    expect(page.locator("#result")).to_be_visible()
    page.locator("#model").focus()
    order = []
    for _ in range(6):
        assert page.evaluate("document.activeElement.matches(':focus-visible')")
        order.append(page.evaluate("[document.activeElement].map(({id, value, text}) => id || value || text)[0]"))
        page.keyboard.press("Tab")
    assert order == ["model", "theme", "drawing", "undo", "clear", None]  # the first sample
    page.locator("#importance-button").focus()
    order = []
    for _ in range(6):
        order.append(page.evaluate("[document.activeElement].map(({id, text}) => id || text)[0]"))
        page.keyboard.press("Tab")
    assert order == ["importance-button", "burst-images", "burst-form", "fire", "copy", "API description"]
    page.get_by_role("radio", name="Draw").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("radio", name="Picture")).to_be_checked()
    page.keyboard.press("Tab")
    expect(page.get_by_label("Choose files")).to_be_focused()


def test_a_finger_draws_on_a_phone(browser: Browser, service: ServiceProcess) -> None:
    with opened(browser, service, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True) as page:
        expect(page.locator("#readiness")).to_have_text("ready")
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        session = page.context.new_cdp_session(page)
        pad = page.locator("#pad").bounding_box()
        assert pad

        def touch(kind: str, points: list[tuple[float, float]]) -> None:
            touches = [
                {"x": pad["x"] + x / 100 * pad["width"], "y": pad["y"] + y / 100 * pad["height"]} for x, y in points
            ]
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

        for stroke in draw("4", 0, 0).strokes:
            touch("touchStart", stroke[:1])
            for point in stroke[1:]:
                touch("touchMove", [point])
            touch("touchEnd", [])
        expect(page.locator("#best-label")).to_have_text("4")
        expect(page.locator("#best-label")).to_be_in_viewport(ratio=1)


def test_the_model_that_is_chosen_answers(browser: Browser, tmp_path: Path) -> None:
    shutil.copytree(GOLDEN.parent, tmp_path / "digits" / "1")
    add_digits(tmp_path, name="figures")  # whose labels are no digits
    flags = (*QUICKLY, "--model-repository", str(tmp_path), "--models", "figures,digits")
    with running_service(*flags) as service, opened(browser, service) as page:
        chooser = page.get_by_label("Model")
        expect(chooser).to_have_value("figures, version 1")
        expect(page.locator("#drawing")).to_be_hidden()
        expect(page.locator("#hint")).to_have_text("Draw here")
        choose(page, "digit-0.png")
        expect(page.locator("#best-label")).to_have_text("figures/1 0")
        chooser.select_option("digits, version 1")
        expect(page.locator("#best-label")).to_have_text("0")
        expect(page.locator("#hint")).to_have_text("Draw a digit")
        expect(page.locator("#curl")).to_contain_text("model=digits&version=1")


def test_a_key_is_asked_for_and_kept_for_the_tab_alone(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(hashlib.sha256(b"open sesame").hexdigest())
    with (
        running_service(*QUICKLY, "--api-keys-file", str(tmp_path / "keys")) as service,
        opened(browser, service) as page,
    ):
        field = page.get_by_label("This service asks for an API key")
        expect(field).to_be_focused()
        expect(page.locator("#readiness")).to_have_text("locked")
        field.fill("open barley")
        field.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("401 unauthorized:")
        field.fill("open sesame")
        field.press("Enter")
        expect(page.locator("#readiness")).to_have_text("ready")
        expect(field).to_be_hidden()
        choose(page, "digit-5.png")
        expect(page.locator("#best-label")).to_have_text("5")
        assert page.evaluate("[sessionStorage.length, localStorage.length]") == [1, 0]
        page.reload()
        expect(page.locator("#readiness")).to_have_text("ready")


def test_a_full_service_says_when_to_come_back(browser: Browser) -> None:
    flags = (*QUICKLY, "--max-inflight-images", "1", "--deadline-ms", "60000")
    with running_service(*flags) as service, opened(browser, service) as page:
        with socket.create_connection(("127.0.0.1", service.port)) as slow:
            slow.sendall(b"POST /v1/classify HTTP/1.1\r\nHost: mixer\r\nContent-Length: 100\r\n\r\n")
            while service.metrics()["mixer_inflight_images"] == 0:
                time.sleep(0.01)
            choose(page, "digit-5.png")
            expect(page.get_by_role("alert")).to_contain_text("429 over_capacity:")
            expect(page.get_by_role("alert")).to_contain_text("Try again in ")
        expect(page.locator("#best-label")).to_have_text("")


def test_a_service_that_stopped_is_said_to_be_unreachable(browser: Browser) -> None:
    with running_service(*QUICKLY, "--drain-seconds", "0") as service, opened(browser, service) as page:
        expect(page.locator("#readiness")).to_have_text("ready")
        service.terminate()
        assert service.process.wait(timeout=30) == 0
        choose(page, "digit-5.png")
        expect(page.get_by_role("alert")).to_contain_text("The service cannot be reached")
        expect(page.locator("#readiness")).to_have_text("unreachable")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_to_object_to(browser: Browser, service: ServiceProcess, axe: str, theme: str) -> None:
    def violations(page: Page) -> list[object]:
        page.evaluate(axe)
        found = page.evaluate("axe.run().then(({violations}) => violations)")
        return [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found]

    with opened(browser, service, color_scheme=theme, reduced_motion="reduce") as page:
        expect(page.locator("#readiness")).to_have_text("ready")
        assert violations(page) == []
        draw_on(page, draw("2", 0, 0))
        expect(page.locator("#result")).to_be_visible()
        assert violations(page) == []
        page.locator("#importance-button").click()
        expect(page.locator("#importance")).to_be_visible()
        assert violations(page) == []
        give(page, "drop", "digit-3.png", "../labels.txt")
        expect(page.locator("#several-spoken")).to_contain_text("Finished")
        page.set_input_files("#file", [ROOT / "README.md", GOLDEN / "digit-1.png"])
        expect(page.get_by_role("alert")).to_contain_text("415")
        assert violations(page) == []
        page.locator("#key").evaluate("key => key.hidden = false")
        assert violations(page) == []
