"""Drift is told where there is some, rarely where there is none, and what to label next is read by `labels`."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from components.exported_model.reference import CONFIDENCE, PUSHED_REFERENCE_FILE, Profile, write_profile
from data.corrections_file import read_corrections
from data.image_statistics import SCALES
from pipeline import labels, watch
from pipeline.command_line import EXIT_DRIFTED
from pipeline.scoring.drift import find_drift, holm
from pipeline.scoring.rows import CSV_HEADER, RENDER
from tests.drift_draws import DRAWS, Pool, count_alarms, measure_shifts

CLASSES = ("a", "b", "c", "d", "e")


def make_picture(random: np.random.Generator) -> Image.Image:
    """Returns a made-up picture: a tint, a slope and some texture, each as strong as chance has it."""
    rows, columns = np.mgrid[-1:1:24j, -1:1:32j]
    tint = random.uniform(60, 170, 3)
    slope = random.normal(0, 25, 2)
    texture = random.normal(0, random.uniform(2, 25), (24, 32, 3))
    pixels = tint + (slope[0] * rows + slope[1] * columns)[..., None] + texture
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def pool() -> Pool:
    random = np.random.default_rng(3)
    pictures = [make_picture(random) for _ in range(900)]
    names = random.choice(CLASSES, len(pictures)).tolist()
    return Pool(measure_shifts(pictures), names, random.beta(8, 1, len(pictures)).tolist())


@pytest.mark.parametrize("draws", [40, pytest.param(DRAWS, marks=pytest.mark.slow)])
def test_brightness_blur_and_a_class_three_times_as_frequent_are_found_and_nothing_is_where_nothing_is(
    pool: Pool, draws: int
) -> None:
    found = count_alarms(pool, 400, np.random.default_rng(4), draws)
    assert found["none"] <= 0.05 * draws
    assert min(found["brighter"], found["blurred"], found["tripled"]) >= 0.95 * draws, found


def test_less_sure_answers_are_drift_of_confidence(pool: Pool) -> None:
    lower = Pool(pool.figures, pool.labels, [value**2 for value in pool.confidences])
    places = np.arange(900)
    tests = find_drift(pool.profile(places[:400]), lower.profile(places[400:]))
    assert [(test.question, test.what) for test in tests if test.drifted] == [("confidence", CONFIDENCE)]
    assert tests[0].now < tests[0].before


def test_the_distance_of_histograms_is_that_of_scipy_and_its_probability_no_smaller() -> None:
    random = np.random.default_rng(5)
    scale = SCALES["brightness"]
    before, now = random.beta(2, 2, 300), random.beta(2.4, 2, 500)
    # To the middle of its bin, which is all that a histogram knows.
    binned = [
        [scale.low + (scale.bin_of(value) + 0.5) * (scale.high - scale.low) / scale.bins for value in values]
        for values in (before, now)
    ]
    reference, scored = Profile(), Profile()
    for values, counted in ((before, reference), (now, scored)):
        for value in values:
            counted.add("a", {"brightness": value})
    (test,) = (test for test in find_drift(reference, scored) if test.what == "brightness")
    referee = stats.ks_2samp(*binned, method="asymp")
    assert test.distance == pytest.approx(referee.statistic)
    assert test.p_value == pytest.approx(referee.pvalue, rel=0.1)  # one formula is of Stephens, the other Smirnov's
    assert test.before == pytest.approx(before.mean(), abs=0.025)


def test_holm_steps_down() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert holm([]).size == 0


def test_a_class_is_named_with_both_its_shares() -> None:
    before, now = Profile(400, Counter(a=300, b=100)), Profile(500, Counter(a=200, b=200, new=100))
    told = {test.what: test for test in find_drift(before, now)}
    assert told["new"].describe().startswith("class 'new': 0.0% of test, 20.0% now (p ")
    assert told["new"].p_value == pytest.approx(stats.fisher_exact([[0, 400], [100, 400]])[1])
    assert (told["a"].distance, told["a"].drifted) == (pytest.approx(-0.35), True)


@pytest.fixture
def model(tmp_path: Path, pool: Pool) -> Path:
    folder = tmp_path / "serving" / "9"
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"a graph, which nobody loads here")
    write_profile(pool.profile(np.arange(400)), str(folder / PUSHED_REFERENCE_FILE))
    return folder


def write_scored(path: Path, pool: Pool, shift: str = "none", version: str = "9") -> Path:
    rows = []
    for place in range(400, 900):
        figures = {f"image_{name}": value for name, value in zip(SCALES, pool.figures[shift][place], strict=True)}
        row = {"name": f"{place}.png", "sha256": f"{place:064x}", "version": version, **figures}
        row |= {"label": pool.labels[place], "probability": pool.confidences[place]}
        row |= {"given_label": "e" if place % 2 else None}
        rows.append(row)
    rows.append({"name": "broken.png", "version": version, "problem": "not an image"})
    path.write_bytes((CSV_HEADER if path.suffix == ".csv" else b"") + RENDER[path.suffix](rows))
    return path


@pytest.mark.parametrize("name", ["scored.csv", "scored.jsonl", "scored.parquet"])
def test_no_drift_is_status_0_and_drift_is_status_3_with_a_line_for_each_and_every_test_in_json(
    name: str, model: Path, pool: Pool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_scored(tmp_path / name, pool)
    assert watch.main([str(path), "--model", str(model.parent)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["no drift of 12 tests: 500 images, 1 that cannot be used left out, against 400 of test"]
    write_scored(path, pool, "brighter")
    assert watch.main([str(path), "--model", str(model)]) == EXIT_DRIFTED
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("drift  brightness (mean luma, 0 black, 1 white): mean 0.4")
    assert watch.main([str(path), "--model", str(model), "--json"]) == EXIT_DRIFTED
    facts = json.loads(capsys.readouterr().out)
    assert (facts["drifted"], facts["images"], facts["unusable"], facts["reference_images"]) == (True, 500, 1, 400)
    assert {test["what"] for test in facts["tests"]} == {*SCALES, CONFIDENCE, *CLASSES}


def test_the_least_certain_are_labelled_next_and_what_people_say_of_them_becomes_corrections(
    model: Path, pool: Pool, tmp_path: Path
) -> None:
    scored, sheet, corrections = (tmp_path / name for name in ("scored.csv", "sheet.csv", "corrections.csv"))
    write_scored(scored, pool)
    more = ["--sample", "20", "--least-certain", "--to", str(sheet)]
    assert watch.main([str(scored), "--model", str(model), *more]) == 0
    header, *lines = sheet.read_text(encoding="utf-8-sig").splitlines()
    columns = header.split(",")
    rows = [dict(zip(columns, line.split(","), strict=True)) for line in lines]
    least = sorted(range(400, 900), key=lambda place: pool.confidences[place])[:20]
    assert [row["name"] for row in rows] == [f"{place}.png" for place in least]
    for place, row in zip(least, rows, strict=True):
        assert row["label"] == ("e" if place % 2 else pool.labels[place])
        assert row["suggested_label"] == pool.labels[place]
    decided = [f"{'a' if number else 'REMOVE'}{line}" for number, line in enumerate(lines)]
    sheet.write_text("\n".join([header, *decided]) + "\n")
    assert labels.main(["import", str(sheet), "--to", str(corrections)]) == 0
    found = read_corrections(str(corrections))
    assert list(found) == [row["content_sha256"] for row in rows]
    assert [one.label for one in found.values()] == ["REMOVE", *["a"] * 19]
    assert [one.was for one in found.values()] == [row["label"] for row in rows]


def test_a_sample_at_random_is_the_same_each_time_and_not_that_of_the_least_certain(
    model: Path, pool: Pool, tmp_path: Path
) -> None:
    scored = write_scored(tmp_path / "scored.jsonl", pool)
    sheets = {}
    for name, more in (("one", []), ("two", []), ("least", ["--least-certain"])):
        path = tmp_path / f"{name}.csv"
        assert watch.main([str(scored), "--model", str(model), "--sample", "30", "--to", str(path), *more]) == 0
        sheets[name] = path.read_text()
    assert sheets["one"] == sheets["two"] != sheets["least"]
    assert sheets["one"].count("\n") == 31


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--least-certain"], "--least-certain is for a sample; give --sample"),
        (["--sample", "0"], "--sample 0: must be at least 1"),
        (["--false-alarms", "1"], "--false-alarms 1.0: must lie between 0 and 1"),
        (["--sample", "5", "--to", "{scored}"], "is there already, and may hold somebody's decisions; name another"),
    ],
)
def test_mistakes_are_one_line(
    more: list[str], message: str, model: Path, pool: Pool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scored = write_scored(tmp_path / "scored.csv", pool)
    given = [argument.replace("{scored}", str(scored)) for argument in more]
    assert watch.main([str(scored), "--model", str(model), *given]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_what_cannot_be_compared_is_refused(
    model: Path, pool: Pool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_scored(tmp_path / "other.csv", pool, version="8")
    assert watch.main([str(other), "--model", str(model)]) == 2
    assert "was scored by version 8, and --model is 9; give the model that scored it" in capsys.readouterr().err
    table = tmp_path / "table.csv"
    table.write_text("path,label\na.png,cat\n")
    assert watch.main([str(table), "--model", str(model)]) == 2
    assert "has no column 'name'; give what predict --out wrote" in capsys.readouterr().err
    assert watch.main([str(tmp_path / "none.jsonl"), "--model", str(model)]) == 2
    assert "none.jsonl: cannot be read as scored images (No such file" in capsys.readouterr().err
    (model / PUSHED_REFERENCE_FILE).unlink()
    assert watch.main([str(other), "--model", str(model)]) == 2
    assert "carries no assets.extra/reference.json to compare with" in capsys.readouterr().err
