"""Conclusions: in words, what the intervals of two policies allow to say, and what they do not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from geoflow.experiments.proportions import detectable_difference, sign_test, welch_test

HEADLINE_NFE = 10
"""Policies are compared at the largest NFE up to this one, by their best solver there."""

Record = dict[str, Any]


@dataclass(frozen=True)
class Finding:
    """What one pair of policies shows on one task.

    Attributes:
        task: The task's name.
        pair: The two names.
        verdicts: NFE -> "ahead", "behind" (the first against the second) or "undecided".
        text: The sentences.
    """

    task: str
    pair: tuple[str, str]
    verdicts: Mapping[int, str]
    text: str

    @property
    def decided(self) -> list[int]:
        """NFEs at which the intervals tell the two apart."""
        return [nfe for nfe, verdict in self.verdicts.items() if verdict != "undecided"]

    @property
    def tag(self) -> str:
        """The finding in three words."""
        if not self.decided:
            return "not decided at this size"
        if len(self.decided) == len(self.verdicts):
            return "decided"
        return f"decided at {_nfes(self.decided)} only"


def headline(records: Iterable[Record]) -> Record:
    """The record a policy is quoted by: the largest NFE up to 10, and the solver that does best there."""
    records = list(records)
    few = [record for record in records if record["nfe"] <= HEADLINE_NFE] or records
    return max(few, key=lambda record: (record["nfe"], record["success_rate"]))


def best(records: Iterable[Record]) -> Record:
    """The record with the highest success; of equals, the one with fewest evaluations."""
    return max(records, key=lambda record: (record["success_rate"], -record["nfe"]))


def conclude(records: Sequence[Record]) -> list[Finding]:
    """What the intervals allow to say about each pair of policies on each task.

    Two policies are told apart where their 95 % intervals do not overlap, which is a cautious rule: among
    equals, with as many episodes each, it errs in fewer than 1 of 100 comparisons.
    """
    findings = []
    for task in dict.fromkeys(record["task"] for record in records):
        here = [record for record in records if record["task"] == task]
        policies = dict.fromkeys(record["policy"] for record in here)
        for a, b in combinations(policies, 2):
            finding = _contrast([r for r in here if r["policy"] == a], [r for r in here if r["policy"] == b])
            if finding:
                findings.append(finding)
    return findings


def percent(record: Mapping[str, Any]) -> str:
    """83 % [74, 89]."""
    low, high = 100 * record["ci_low"], 100 * record["ci_high"]
    return f"{100 * record['success_rate']:.0f} % [{low:.0f}, {high:.0f}]"


# Concluding.


def _contrast(ours: Sequence[Record], theirs: Sequence[Record]) -> Finding | None:
    """The sentences about one pair, over every NFE that both were evaluated at."""
    shared = sorted({r["nfe"] for r in ours} & {r["nfe"] for r in theirs})
    if not shared:
        return None
    verdicts = {
        nfe: _verdict(*(best(r for r in side if r["nfe"] == nfe) for side in (ours, theirs)))
        for nfe in shared
    }
    a, b = headline(ours), headline(theirs)
    name_a, name_b = a["policy"], b["policy"]
    clauses = []
    for verdict, words in (("ahead", f"{name_a} is ahead at"), ("behind", f"{name_b} is ahead at")):
        at = [nfe for nfe in shared if verdicts[nfe] == verdict]
        clauses += [f"{words} {_nfes(at)}"] if at else []
    undecided = [nfe for nfe in shared if verdicts[nfe] == "undecided"]
    if undecided:
        clauses.append(f"not decided at this size at {_nfes(undecided)} (the intervals overlap)")
    text = _sentence("; ".join(clauses))
    where_a, where_b = cell_name(a), cell_name(b)
    if where_a == where_b:
        text += f" At {where_a}: {percent(a)} against {percent(b)}"
    else:
        text += f" {name_a} at {where_a}: {percent(a)}; {name_b} at {where_b}: {percent(b)}"
    text += f"{_paired(a, b)}{_over_trainings(a, b)}."
    top_a, top_b = best(ours), best(theirs)
    if top_a["success_rate"] > a["success_rate"] or top_b["success_rate"] > b["success_rate"]:
        text += f" Each at its best: {percent(top_a)} at {cell_name(top_a)}, {percent(top_b)} at {cell_name(top_b)}."
    if len(undecided) == len(shared):
        episodes = min(a["episodes"], b["episodes"])
        seen = detectable_difference((a["success_rate"] + b["success_rate"]) / 2, episodes)
        text += (
            f" So no difference between them is shown: a null result at this size, where {episodes} episodes "
            f"each would show a difference of about {100 * seen:.0f} points or more."
        )
    return Finding(a["task"], (name_a, name_b), verdicts, text)


def _verdict(a: Record, b: Record) -> str:
    if a["ci_low"] > b["ci_high"]:
        return "ahead"
    return "behind" if b["ci_low"] > a["ci_high"] else "undecided"


def _paired(a: Record, b: Record) -> str:
    """Scenes that one of the two solved alone, where both met the same ones with as many seeds."""
    if (
        a["episodes"] != b["episodes"]
        or a["first_seed"] != b["first_seed"]
        or len(a["solved"]) != len(b["solved"])
    ):
        return ""
    pairs = [(set(x), set(y)) for x, y in zip(a["solved"], b["solved"], strict=True)]
    only_a, only_b = sum(len(x - y) for x, y in pairs), sum(len(y - x) for x, y in pairs)
    return (
        f"; of the same scenes, {only_a} were solved by {a['policy']} alone, {only_b} by {b['policy']} alone "
        f"(sign test for these trainings, p {_p(sign_test(only_a, only_b))})"
    )


def _over_trainings(a: Record, b: Record) -> str:
    """What the trainings say where there are several of each: episodes of one training are no further trainings."""
    p = welch_test(a["seed_rates"], b["seed_rates"])
    return "" if p is None else f"; with the trainings as units, p {_p(p)} (Welch's test)"


def _p(value: float) -> str:
    return f"= {value:.2g}" if value >= 0.001 else "< 0.001"


SOLVERS = {
    "euler": "",
    "jump": "",
    "regression": "",
    "ddpm": "ancestral",
    "ddim": "DDIM",
    "dpmsolver++": "DPM-Solver++",
}
"""What a reader calls a solver; nothing where a method has but one that is worth a word."""


def solver_name(record: Mapping[str, Any]) -> str:
    """DDIM, midpoint, or nothing."""
    solver = str(record["solver"])
    return SOLVERS.get(solver, solver)


def cell_name(record: Mapping[str, Any]) -> str:
    """NFE 10 (DDIM)."""
    solver = solver_name(record)
    return f"NFE {record['nfe']}" + (f" ({solver})" if solver else "")


def _nfes(values: Sequence[int]) -> str:
    return "NFE " + ", ".join(map(str, values))


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
