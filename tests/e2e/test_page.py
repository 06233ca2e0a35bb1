"""The report in a real browser, of a real run."""

import json

import pytest

from ptm_dist.page.compare import page_of as compared_page
from ptm_dist.page.html import SCRIPTS
from ptm_dist.page.run import page_of
from ptm_dist.page.server import serve
from ptm_dist.recipe_io import dump_recipe
from ptm_dist.run import RunFolder
from ptm_dist.watched import Watched
from tests.browser import CHROMIUM, browser
from tests.tiny import STEPS, ptm, tiny_recipe
from tests.unit.test_page import EVIL
from tests.unit.test_status import T0, evaluated, make_run, started, steady, step_event, write

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here (Debian: apt-get install chromium)")

INK = """[...document.querySelectorAll('.plot:not([data-empty])')].map((figure) => {
  const drawn = figure.querySelector('canvas'), { width, height } = drawn;
  const copy = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
  copy.drawImage(drawn, 0, 0);
  const pixels = copy.getImageData(0, 0, width, height).data;
  let ink = 0;
  for (let place = 0; place < pixels.length; place += 4) {
    const [red, green, blue, alpha] = pixels.slice(place, place + 4);
    if (alpha > 60 && Math.max(red, green, blue) - Math.min(red, green, blue) > 40) ink++;
  }
  return [figure.dataset.plot, ink];
})"""
"""Of each plot, how many of its pixels have a colour: grid and text are grey, so these are of its curves, two dots at least."""
LEAST_INK = 60
PAPER = "getComputedStyle(document.body).backgroundColor"


@pytest.fixture(scope="module")
def real_run(tiny_data, tmp_path_factory):
    """A tiny run of two stages that was trained to its end."""
    folder = tmp_path_factory.mktemp("real")
    recipe = tiny_recipe(stages=[{"name": "first", "steps": {"mlm": STEPS // 2}}, {"name": "second", "steps": {"mlm": STEPS // 2}}])
    run = RunFolder(folder / "run")
    run.claim(recipe)
    run.set_data(tiny_data)
    (folder / "tiny.yaml").write_text(dump_recipe(recipe))
    trained = ptm("train", folder / "tiny.yaml", "--run", run.path, "--launcher", "local")
    assert trained.returncode == 0, trained.stderr
    return run


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def page(chromium):
    """A browser that has said and asked nothing yet."""
    chromium.said.clear()
    chromium.asked.clear()
    return chromium


def file_of(folder, text):
    path = folder / "page.html"
    path.write_text(text)
    return path.as_uri()


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False)])
def test_every_plot_of_a_real_run_is_drawn_and_nothing_is_asked_for(page, real_run, tmp_path, width, dark):
    url = file_of(tmp_path, page_of(Watched.open(real_run.path)))
    page.show(url, width=width, dark=dark)
    ink = dict(page.value(INK))
    assert {"mlm, masked_lm", "tokens a second", "learning rate", "gradient norm", "seconds a step, by phase"} <= ink.keys()
    assert min(ink.values()) >= LEAST_INK, ink
    assert page.value("document.documentElement.dataset.drawn") == str(len(ink))
    assert page.value("document.documentElement.scrollWidth <= innerWidth"), "nothing stands out at the side"
    assert (page.value(PAPER) == "rgb(18, 20, 23)") is dark
    assert page.said == []
    assert set(page.asked) == {url}
    text = page.value("document.body.innerText")
    assert "finished" in text
    assert "unigram entropy" in text
    assert page.value("document.querySelectorAll('.strip .stage').length") == 2
    assert page.value("document.querySelectorAll('.share span').length") >= 2


def test_the_policy_of_the_page_stops_whatever_is_not_its_own(page, real_run, tmp_path):
    evil = "<script>window.hacked = 1</script><img src='https://127.0.0.1:9/x.png'>"
    page.show(file_of(tmp_path, page_of(Watched.open(real_run.path)).replace("</body>", f"{evil}</body>")))
    assert page.value("window.hacked") is None
    assert len([line for line in page.said if "Content Security Policy" in line]) == 2


def test_names_and_messages_of_a_run_are_text(page, tmp_path):
    run = make_run(tmp_path / "<b onclick=hacked=1>", paper=EVIL)
    (run.path / "supervision.jsonl").write_text(
        "".join(
            json.dumps({"attempt": 1, "time": T0} | event) + "\n"
            for event in (
                {"event": "attempt_placed", "workers": 2, "wanted_workers": 2, "nodes": [EVIL], "step": 0},
                {"event": "attempt_ended", "exit_code": 41, "cause": EVIL, "message": EVIL, "step": 3},
            )
        )
    )
    chosen = {"event": "chosen", "attempt": 1, "time": T0, "key": EVIL, "value": EVIL}
    write(run, started(1, 0, T0, code=EVIL), chosen, *(step_event(1, n, T0 + n, task=EVIL if n == 2 else "mlm") for n in range(3)))
    page.show(file_of(tmp_path, page_of(Watched.open(run.path))))
    assert page.value("typeof hacked") == "undefined"
    assert page.value("document.querySelectorAll('img, b[onclick], script').length") == 1 + len(SCRIPTS["run"]), (
        "its data and its own scripts"
    )
    assert page.value("document.querySelector('.message').textContent") == EVIL
    assert page.said == []


def test_a_served_page_keeps_up_with_its_run_without_being_loaded_again(page, tmp_path):
    run = make_run(tmp_path / "run", [started(1, 0, T0), *steady(10), evaluated(0, "mlm", "masked_lm", T0)])
    with serve(Watched.open(run.path)) as url:
        page.show(url)
        assert page.value("document.querySelector('.tile dd').textContent") == "10"
        page.value("window.still = 'here'; document.querySelector('details').open = true; true")
        canvas = "document.querySelector('.plot canvas')"
        page.value(f"window.canvas = {canvas}; true")
        write(run, *steady(10, 10, T0 + 10))
        page.wait("document.documentElement.dataset.news === '2'")
        assert page.value("document.querySelector('.tile dd').textContent") == "20"
        assert page.value("window.still") == "here"
        assert page.value(f"window.canvas === {canvas}"), "the plot is the same one"
        assert page.value("document.querySelector('details').open")
        assert min(dict(page.value(INK)).values()) >= LEAST_INK
        assert page.said == []
        assert {asked.split("?")[0] for asked in page.asked} == {url, f"{url}data.json"}


def test_a_run_that_has_not_begun_has_a_page_that_opens(page, tmp_path):
    page.show(file_of(tmp_path, page_of(Watched.open(make_run(tmp_path / "run").path))))
    assert page.value("document.querySelector('.state').textContent") == "new"
    assert page.said == []


def test_runs_are_drawn_on_the_axis_that_is_chosen(page, tmp_path, real_run):
    other = make_run(tmp_path / "other", [started(1, 0, T0), *steady(20), evaluated(10, "mlm", "masked_lm", T0)])
    page.show(file_of(tmp_path, compared_page([Watched.open(real_run.path), Watched.open(other.path)], "steps")))
    assert min(dict(page.value(INK)).values()) >= LEAST_INK
    page.value("document.querySelectorAll('.choice button')[1].click()")
    assert page.value("document.querySelector('.choice [aria-pressed=true]').textContent") == "Tokens"
    assert min(dict(page.value(INK)).values()) >= LEAST_INK
    assert page.said == []
