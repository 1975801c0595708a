import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from browser import open_page

from emhance.config import EnhanceConfig
from emhance.errors import OutputError
from emhance.evidence import enhance_with_evidence
from emhance.maps.mrc import write_map
from emhance.maps.volume import DensityMap, Geometry
from emhance.pipeline import enhance
from emhance.report.folder import find_runs, report_path, write_report_of_run

pytest.importorskip("jinja2")


@pytest.fixture(scope="module")
def config(small_network):
    return EnhanceConfig(network=small_network, gpus="none", precision="float32")


@pytest.fixture(scope="module")
def run(simulated, config, tmp_path_factory) -> Path:
    """Folder of a run on half maps with evidence and report."""
    folder = tmp_path_factory.mktemp("run")
    geometry = Geometry.whole_box(simulated.half1.shape, 1.0)
    for name, half in (("half1.mrc", simulated.half1), ("half2.mrc", simulated.half2)):
        write_map(folder / name, DensityMap(half, geometry))
    result = enhance_with_evidence(folder / "half1.mrc", folder / "half2.mrc", config=config)
    _, record, _ = result.write(folder / "enhanced.mrc")
    write_report_of_run(record)
    return folder


@pytest.fixture(scope="module")
def page(run) -> str:
    return (run / "enhanced_report.html").read_text(encoding="utf-8")


def test_the_page_is_one_small_file_that_needs_nothing_from_elsewhere(run, page):
    assert report_path(run / "enhanced.mrc").stat().st_size < 10e6
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page.split("<script")[0])
    assert not re.search(r"<script[^>]+src=|<link[^>]+stylesheet|@import", page)


def test_it_holds_verdict_caution_and_provenance(run, page):
    record = json.loads((run / "enhanced.json").read_text())
    assert len(re.findall(r"<li>", page[page.index('class="verdict"') : page.index("</ul>")])) == 3
    assert record["caution"] in page
    assert record["evidence"]["held_out"]["sentence"] in page
    for entry in record["inputs"]:
        assert entry["sha256"] in page
    assert record["network"]["sha256"] in page


def test_every_plot_is_svg_with_words(page):
    plots = re.findall(r'<div role="img" aria-label="([^"]+)"><svg', page)
    titles = [words.split(".")[0] for words in plots]
    assert titles[:4] == ["Half-map FSC", "FSC by direction", "Guinier plot", "Local resolution"]
    assert {"Held-out half", "Confidence", "Histograms and noise"} <= set(titles)
    assert all(len(words) > 40 for words in plots)
    assert "currentColor" in page


def test_reports_are_found_and_not_overwritten_by_accident(run):
    assert find_runs(run) == [run / "enhanced.json"]
    with pytest.raises(OutputError, match="overwrite"):
        write_report_of_run(run / "enhanced.json")


def test_a_folder_without_runs_is_refused(tmp_path):
    (tmp_path / "other.json").write_text("[1]")
    with pytest.raises(OutputError, match="holds no map enhanced by emhance"):
        find_runs(tmp_path)


def test_a_single_map_has_a_report_too(simulated, config, tmp_path):
    geometry = Geometry.whole_box(simulated.half1.shape, 1.0)
    write_map(tmp_path / "map.mrc", DensityMap(simulated.half1, geometry))
    _, record = enhance(tmp_path / "map.mrc", config=config).write(tmp_path / "out.mrc")
    text = write_report_of_run(record).read_text(encoding="utf-8")
    assert "One map without half maps" in text
    assert 'id="by-confidence"' not in text


def test_inputs_that_are_gone_are_said_to_be(simulated, config, tmp_path):
    geometry = Geometry.whole_box(simulated.half1.shape, 1.0)
    write_map(tmp_path / "map.mrc", DensityMap(simulated.half1, geometry))
    _, record = enhance(tmp_path / "map.mrc", config=config).write(tmp_path / "out.mrc")
    (tmp_path / "map.mrc").unlink()
    assert "is not there any more" in write_report_of_run(record).read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_browser_draws_slices_and_surfaces_and_moves_them(run):
    with open_page(run / "enhanced_report.html") as browser:
        assert browser.execute_script("return document.documentElement.dataset.ready") == "3d"
        errors = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
        assert errors == []
        assert browser.execute_script("return document.body.scrollWidth <= window.innerWidth")
        places = {name: browser.find_element("id", f"surface-{name}") for name in ("input", "output")}
        for place in places.values():
            assert len(place.find_elements("tag name", "canvas")) == 1

        def pictures() -> dict[str, bytes]:
            return {name: place.screenshot_as_png for name, place in places.items()}

        def settled(done: Callable[[dict[str, bytes]], bool], what: str) -> dict[str, bytes]:
            """The pictures once they are as they should be: a busy machine draws surfaces seconds later."""
            end = time.monotonic() + 60
            while not done(now := pictures()):
                assert time.monotonic() < end, what
                time.sleep(0.3)
            return now

        settled(lambda now: all(share_drawn(picture) > 0.02 for picture in now.values()), "a surface is blank")
        before = pictures()
        for _ in range(20):  # until nothing moves any more
            time.sleep(1.0)
            if (now := pictures()) == before:
                break
            before = now
        browser.find_element("id", "turn-left").click()
        turned = settled(lambda now: all(now[name] != before[name] for name in before), "one camera turns both")

        slices = "return [...document.querySelectorAll('canvas[data-axis=z]')].map(c => c.toDataURL())"
        first = browser.execute_script(slices)
        browser.execute_script("const s = document.getElementById('slice-z'); s.value = 10; s.dispatchEvent(new Event('input'))")
        assert all(a != b for a, b in zip(first, browser.execute_script(slices), strict=True))

        browser.execute_script(
            "const s = document.getElementById('level-output'); s.value = 2 * s.value; s.dispatchEvent(new Event('change'))"
        )
        settled(lambda now: now["output"] != turned["output"], "the contour slider changes the surface")


def share_drawn(png: bytes) -> float:
    """Share of a picture's pixels that differ from its corner."""
    import io

    from matplotlib.image import imread

    pixels = np.asarray(imread(io.BytesIO(png), format="png"))[..., :3]
    return float((np.abs(pixels - pixels[4, 4]).max(axis=2) > 0.05).mean())
