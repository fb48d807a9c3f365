"""The page of a run in a real browser: it opens from disk, complains of nothing, and does what its controls say."""

import json

import numpy as np
import pytest
from browser import Browser, find_browser

from pyws.data.video.frames import write_mask, write_picture
from pyws.report.run import write_report

pytestmark = pytest.mark.skipif(not find_browser(), reason="no Chromium is installed (PYWS_BROWSER names another)")
NASTY = "</script><script>alert(1)</script> \"q\" 'a' \n ünï 日本 %23 #"


def make_run(root, names, frames=3):
    """What pyws masks init leaves of some videos: the mask of video k covers k tenths of each frame."""
    entries = {}
    for number, name in enumerate(names):
        folder = root / "videos" / str(number)
        for index in range(frames):
            write_picture(folder / f"{index:05d}.png", np.full((20, 40, 3), 40 * index, np.uint8))
            mask = np.zeros((20, 40), np.uint8)
            mask[:, : 4 * number] = 1
            for kind in ("init", "pa/v0"):
                write_mask(root / kind / name.replace("/", "_") / f"{index:05d}.png", mask)
        entries[name] = {"source": str(folder), "tags": ["cat"], "frames": frames, "status": "done",
                         "scores": {"cat": (number + 1) / 10}}  # fmt: skip
    document = {"format": "pyws masks init", "version": 4, "parameters": {"note": NASTY}, "packages": {"pyws": "0"},
                "label_space": {"names": ["background", "cat"]}, "videos": entries}  # fmt: skip
    (root / "manifest.json").write_text(json.dumps(document))
    return root


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    return write_report(make_run(root, ["clip 2", "clip 10", "full", "clip 1"]))


def names(browser):
    return browser.run("[...document.querySelectorAll('.video .name')].map(e => e.textContent)")


def test_worst_videos_come_first_and_search_and_sort_find_others(browser, page):
    browser.open(page)
    assert names(browser) == ["clip 2", "clip 10", "full", "clip 1"]  # by the score of their tag
    browser.run("order.value = 'name'; order.dispatchEvent(new Event('change'))")
    assert names(browser) == ["clip 1", "clip 2", "clip 10", "full"]
    browser.run("search.focus()")
    for letter in "10":
        browser.type(letter)
    browser.until("count.textContent == '1 of 4 videos'")
    assert names(browser) == ["clip 10"]
    assert browser.errors == []


def test_player_moves_plays_and_is_enlarged_by_keyboard(browser, page):
    browser.open(page, "#video=full")
    browser.until("document.querySelector('details[open] .stage img')")
    browser.until("[...document.querySelectorAll('details[open] img')].every(i => i.complete && i.naturalWidth > 0)")
    browser.run("document.querySelector('details[open] input[type=range]').focus()")
    browser.press("ArrowRight", 39)
    browser.until("document.querySelector('details[open] .where').textContent == 'frame 00001'")
    assert browser.run("document.querySelector('details[open] .player .stage img').style.left") == "-100%"
    browser.run("document.querySelector('details[open] .controls button').focus()")
    browser.press("Enter", 13)
    browser.until("document.querySelector('details[open] .where').textContent == 'frame 00002'")
    browser.click("details[open] .controls:nth-of-type(3) button")
    browser.until("document.querySelector('dialog').open && !!document.querySelector('dialog .stage')")
    browser.press("Escape", 27)
    browser.until("!dialog.open && document.querySelector('details[open] .player .stage')")
    assert browser.errors == []


def test_pictures_are_loaded_when_they_come_into_view(browser, tmp_path):
    page = write_report(make_run(tmp_path, [f"v{k:03}" for k in range(103)], frames=1))
    browser.open(page)
    # The first are there when the page has loaded, for whoever prints it or takes a picture of it.
    assert browser.run("[...document.images].slice(0, 16).every(i => i.complete && i.naturalWidth > 0)")
    assert browser.run("[...document.images].some(i => !i.complete)")
    assert len(names(browser)) == 100
    browser.run("scrollTo(0, document.body.scrollHeight)")
    browser.until("document.querySelectorAll('.video').length == 103")


def test_names_are_text_whatever_they_hold(browser, tmp_path):
    root = make_run(tmp_path, ["plain"])
    document = json.loads((root / "manifest.json").read_text())
    entry = document["videos"].pop("plain")
    document["videos"][NASTY] = {**entry, "tags": [NASTY], "warnings": [NASTY]}
    (root / "manifest.json").write_text(json.dumps(document))
    browser.open(write_report(root))
    assert names(browser) == [NASTY]
    assert browser.run("document.querySelectorAll('script').length") == 2
    browser.run("document.querySelector('.wrong a').click()")
    browser.until("document.querySelector('.video').open")
    assert browser.errors == []


def test_dark_mode_and_print_have_their_own_colours(browser, page):
    colour = "getComputedStyle(document.body).backgroundColor"
    browser.emulate(prefers_color_scheme="dark")
    browser.open(page)
    dark = browser.run(colour)
    browser.emulate(prefers_color_scheme="light")
    light = browser.run(colour)
    browser.emulate(media="print")
    assert browser.run("getComputedStyle(document.querySelector('.bar')).display") == "none"
    browser.emulate()
    assert dark != light
