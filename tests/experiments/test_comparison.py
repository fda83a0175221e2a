"""Comparison: seeds are pooled, and words say no more than the intervals allow."""

import json
import re
import shutil

import pytest
from scipy.stats import ttest_ind

from geoflow.experiments.comparison import read_comparison
from geoflow.experiments.conclusions import best, headline
from geoflow.experiments.proportions import detectable_difference, wilson_interval
from geoflow.experiments.report import compare
from geoflow.policies.config import PolicyConfig
from tests.experiments.synthetic import DDPM, EUCLIDEAN_FLOW, SE3_FLOW, write_run
from tests.experiments.test_evaluation import PROMISED


def test_seeds_of_one_policy_are_pooled(tmp_path):
    rates = {1: 0.80, 2: 0.90, 3: 0.85}
    runs = [write_run(tmp_path / f"seed{seed}", SE3_FLOW, rate, seed=seed) for seed, rate in rates.items()]
    comparison = read_comparison(runs)
    assert comparison.policies == ["SE(3) flow"]
    for record in comparison.records:
        assert (record["successes"], record["episodes"]) == (255, 300)
        assert (record["ci_low"], record["ci_high"]) == wilson_interval(255, 300)
        assert (record["seeds"], record["seed_rates"]) == ([1, 2, 3], [0.80, 0.90, 0.85])
        assert record["seed_spread"] == pytest.approx(0.05)
        assert sum(record["failures"].values()) == 45
        assert sum(record["modes"].values()) == 255
        assert record.keys() >= PROMISED


def test_intervals_apart_decide(tmp_path):
    runs = [write_run(tmp_path / "a", SE3_FLOW, 0.9), write_run(tmp_path / "b", EUCLIDEAN_FLOW, 0.6)]
    (finding,) = read_comparison(runs).findings
    assert finding.verdicts == dict.fromkeys((1, 2, 4, 10), "ahead")
    assert "SE(3) flow is ahead at NFE 1, 2, 4, 10" in finding.text
    assert "null" not in finding.text
    (backwards,) = read_comparison(runs[::-1]).findings
    assert "SE(3) flow is ahead at NFE 1, 2, 4, 10" in backwards.text
    assert set(backwards.verdicts.values()) == {"behind"}


def test_overlapping_intervals_are_an_honest_null(tmp_path):
    runs = [write_run(tmp_path / "a", SE3_FLOW, 0.86), write_run(tmp_path / "b", EUCLIDEAN_FLOW, 0.80)]
    (finding,) = read_comparison(runs).findings
    assert not finding.decided
    assert finding.tag == "not decided at this size"
    assert "ahead" not in finding.text
    assert "null result" in finding.text
    points = round(100 * detectable_difference(0.83, 100))
    assert f"about {points} points" in finding.text


def test_a_decision_at_one_nfe_claims_no_other(tmp_path):
    first = write_run(tmp_path / "a", SE3_FLOW, {1: 0.9, 2: 0.8, 4: 0.8, 10: 0.8})
    second = write_run(tmp_path / "b", EUCLIDEAN_FLOW, {1: 0.5, 2: 0.8, 4: 0.8, 10: 0.8})
    (finding,) = read_comparison([first, second]).findings
    assert finding.decided == [1]
    assert finding.tag == "decided at NFE 1 only"
    assert "not decided at this size at NFE 2, 4, 10" in finding.text


def test_scenes_are_compared_one_by_one(tmp_path):
    """The counts of scenes that one policy solved alone, from the episodes themselves."""
    runs = [write_run(tmp_path / "a", SE3_FLOW, 0.7), write_run(tmp_path / "b", EUCLIDEAN_FLOW, 0.6)]
    solved = []
    for run in runs:
        record = next(r for r in json.loads((run / "eval.json").read_text())["records"] if r["nfe"] == 10)
        solved.append({e["seed"] for e in record["episode_records"] if e["success"]})
    (finding,) = read_comparison(runs).findings
    counts = [int(n) for n in re.findall(r"(\d+)(?: were solved)? by", finding.text)]
    assert counts == [len(solved[0] - solved[1]), len(solved[1] - solved[0])]


def test_several_trainings_are_compared_as_such(tmp_path):
    """Three of 90, 80, 85 % and two of 60, 70 %: p of the rates, whatever the episodes say; one training has none."""
    of = {SE3_FLOW: (0.9, 0.8, 0.85), EUCLIDEAN_FLOW: (0.6, 0.7)}
    runs = [
        write_run(tmp_path / f"{policy.manifold}{seed}", policy, rate, seed=seed)
        for policy, rates in of.items()
        for seed, rate in enumerate(rates)
    ]
    (finding,) = read_comparison(runs).findings
    p = ttest_ind(*of.values(), equal_var=False).pvalue
    assert f"with the trainings as units, p = {p:.2g} (Welch's test)" in finding.text
    (alone,) = read_comparison([runs[0], runs[3]]).findings
    assert "units" not in alone.text


def test_a_diffusion_is_quoted_by_its_best_solver(tmp_path):
    run = write_run(tmp_path / "ddpm", DDPM, {1: 0.0, 2: 0.1, 4: 0.2, 10: 0.3, 100: 0.6})
    evaluation = json.loads((run / "eval.json").read_text())
    for record in evaluation["records"]:
        if (record["nfe"], record["solver"]) == (10, "dpmsolver++"):
            record["successes"], record["success_rate"] = 40, 0.4
    (run / "eval.json").write_text(json.dumps(evaluation))
    records = read_comparison([run]).records
    assert (headline(records)["nfe"], headline(records)["solver"]) == (10, "dpmsolver++")
    assert (best(records)["nfe"], best(records)["solver"]) == (100, "ddpm")


@pytest.mark.parametrize(("seeds", "episodes", "smoke"), [(1, 100, True), (3, 50, True), (3, 100, False)])
def test_a_smoke_run_says_so(tmp_path, seeds, episodes, smoke):
    runs = [write_run(tmp_path / str(s), SE3_FLOW, 0.8, seed=s, episodes=episodes) for s in range(seeds)]
    caveats = read_comparison(runs).caveats
    assert any("smoke run" in text for text in caveats) == smoke


def test_unequal_treatment_is_named(tmp_path):
    runs = [
        write_run(tmp_path / "a", SE3_FLOW, 0.9),
        write_run(tmp_path / "b", EUCLIDEAN_FLOW, 0.6, steps=2000),
    ]
    caveats = " ".join(read_comparison(runs).caveats)
    assert "optimiser steps (SE(3) flow 4000, Euclidean flow 2000)" in caveats
    assert "batch size" not in caveats


@pytest.mark.parametrize(("load", "busy"), [(2.1, False), (6.0, True), (None, False)])
def test_latency_on_a_busy_machine_is_doubted(tmp_path, load, busy):
    run = write_run(tmp_path / "a", SE3_FLOW, 0.9)
    evaluation = json.loads((run / "eval.json").read_text())
    evaluation["records"][0] |= {"load": load, "cores": 2}
    (run / "eval.json").write_text(json.dumps(evaluation))
    assert any("3.0 processes a core" in text for text in read_comparison([run]).caveats) == busy


def test_policies_that_differ_in_a_setting_are_told_apart(tmp_path):
    wide = PolicyConfig(width=1024)
    runs = [write_run(tmp_path / "a", SE3_FLOW, 0.9), write_run(tmp_path / "b", wide, 0.6, seed=1)]
    assert read_comparison(runs).policies == ["SE(3) flow (width 512)", "SE(3) flow (width 1024)"]


def test_tasks_are_not_mixed(tmp_path):
    run = write_run(tmp_path / "a", SE3_FLOW, 0.9)
    harder = write_run(tmp_path / "b", SE3_FLOW, 0.3, level=2)
    evaluation = json.loads((run / "eval.json").read_text())
    evaluation["records"] += json.loads((harder / "eval.json").read_text())["records"]
    (run / "eval.json").write_text(json.dumps(evaluation))
    comparison = read_comparison([run])
    assert [task.split(", ")[1] for task in comparison.tasks] == ["level 1", "level 2"]
    assert {record["success_rate"] for record in comparison.records} == {0.9, 0.3}


def test_manners_of_playing_are_not_mixed(tmp_path):
    run = write_run(tmp_path / "a", SE3_FLOW, 0.9)
    evaluation = json.loads((run / "eval.json").read_text())
    evaluation["records"] += [record | {"execute": 4} for record in evaluation["records"]]
    (run / "eval.json").write_text(json.dumps(evaluation))
    comparison = read_comparison([run])
    assert [task.split(", ")[-1] for task in comparison.tasks] == [
        "8 steps of a chunk executed",
        "4 steps of a chunk executed",
    ]
    assert {record["episodes"] for record in comparison.records} == {100}


def test_a_delay_is_not_mixed_with_none(tmp_path):
    """Cells of one file that were executed otherwise stand apart, and none counts for another."""
    run = write_run(tmp_path / "a", SE3_FLOW, 0.9)
    evaluation = json.loads((run / "eval.json").read_text())
    evaluation["records"] += [record | {"delay": 6, "manner": "guided"} for record in evaluation["records"]]
    (run / "eval.json").write_text(json.dumps(evaluation))
    comparison = read_comparison([run])
    assert [", ".join(task.split(", ")[-2:]) for task in comparison.tasks] == [
        "0 steps of delay, naive execution",
        "6 steps of delay, guided execution",
    ]
    assert {record["episodes"] for record in comparison.records} == {100}


def test_no_runs_are_refused():
    with pytest.raises(ValueError, match="no runs to compare"):
        read_comparison([])


def test_a_run_given_twice_is_refused(tmp_path):
    run = write_run(tmp_path / "a", SE3_FLOW, 0.9)
    with pytest.raises(ValueError, match="given twice"):
        read_comparison([run, tmp_path / "." / "a"])


def test_copies_of_one_training_are_refused(tmp_path):
    """They are no further seeds."""
    run = write_run(tmp_path / "a", SE3_FLOW, 0.9)
    shutil.copytree(run, tmp_path / "b")
    with pytest.raises(ValueError, match=r"/a and .*/b hold the same weights of SE\(3\) flow"):
        compare([run, tmp_path / "b"], tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_trainings_of_one_seed_are_one_seed(tmp_path):
    """However often it was trained, on other machines perhaps."""
    runs = [write_run(tmp_path / str(i), SE3_FLOW, 0.8, seed=7) for i in range(3)]
    comparison = read_comparison(runs)
    assert {record["episodes"] for record in comparison.records} == {300}
    assert any("a smoke run: 1 training seed a policy, 100 scenes" in text for text in comparison.caveats)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("config.json", None, "no config.json"),
        ("config.json", "{}", "does not describe a geoflow policy"),
        ("eval.json", None, "eval.json is missing; make it with `geoflow evaluate"),
        ("eval.json", "[1]", "is no evaluation"),
        ("eval.json", '{"format": "geoflow-evaluation", "version": 99, "records": []}', "is no evaluation"),
        ("eval.json", '{"format": "geoflow-evaluation", "version": 1, "records": []}', "holds no result"),
    ],
)
def test_a_folder_that_is_no_evaluated_run_is_refused(tmp_path, name, content, words):
    run = write_run(tmp_path / "a", SE3_FLOW, 0.9)
    (run / name).unlink()
    if content is not None:
        (run / name).write_text(content)
    with pytest.raises(ValueError, match=words):
        compare([run], tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_a_training_log_cut_short_by_a_kill_is_read(tmp_path):
    run = write_run(tmp_path / "a", SE3_FLOW, 0.9)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4050, "lo')
    assert read_comparison([run]).runs[0].metrics[-1]["step"] == 4000
