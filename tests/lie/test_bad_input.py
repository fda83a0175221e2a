"""What is wrong is said in a sentence that names what was given, what was expected and what would work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import geoflow
from geoflow.lie import se3, so3
from geoflow.manifolds import SE3, SO3, Euclidean, Product

x, q = se3.identity(3), so3.identity(3)

CASES = {
    "extras": (lambda: se3.log(torch.zeros(2, 8)), ValueError, "last axis 7 .*got shape .2, 8.*Product"),
    "matrices": (lambda: se3.log(torch.eye(4)), ValueError, r"last axis 7 .*got shape .4, 4.*from_matrix"),
    "too few": (lambda: se3.exp(torch.zeros(5)), ValueError, "twists, last axis 6"),
    "a scalar": (lambda: so3.exp(torch.tensor(1.0)), ValueError, "last axis 3"),
    "integers": (
        lambda: se3.log(torch.zeros(7, dtype=torch.long)),
        TypeError,
        r"floating dtype.*int64.*float\(\)",
    ),
    "a list": (lambda: se3.log([0.0] * 7), TypeError, "torch.Tensor; got list"),
    "two dtypes": (
        lambda: se3.compose(x, x.double()),
        TypeError,
        "one dtype; got torch.float32 and torch.float64",
    ),
    "two devices": (lambda: se3.compose(x, x.to("meta")), ValueError, "one device; got cpu and meta"),
    "integer times": (
        lambda: se3.geodesic(x, x, torch.ones(3, dtype=torch.int)),
        TypeError,
        "times of a floating",
    ),
    "6D by what": (lambda: so3.to_6d(q, by="cols"), ValueError, '"columns".*"rows".*cols'),
    "Euler order": (lambda: so3.to_euler(q, "xyx"), ValueError, "once each"),
    "no matrix": (lambda: so3.from_matrix(torch.zeros(3, 4)), ValueError, r"\(\.\.\., 3, 3\)"),
    "vee": (lambda: se3.vee(torch.zeros(3, 3)), ValueError, r"\(\.\.\., 4, 4\)"),
    "xyzw as wxyz": (
        lambda: SE3().check(x * 1.2),
        ValueError,
        r"0\.2 away from 1 .tolerance 0\.001.*project",
    ),
    "drift": (lambda: SO3().check(q * 1.01), ValueError, "SO3.*project"),
    "not finite": (lambda: SE3().check(x * float("nan")), ValueError, "NaN"),
    "in a product": (lambda: Product(SE3(), Euclidean(1)).check(torch.ones(2, 8)), ValueError, "SE3"),
    "product axis": (lambda: Product(SE3(), Euclidean(1)).exp(x, x), ValueError, "last axis 8"),
    "noncompact": (lambda: SE3().random_uniform(3), NotImplementedError, "not compact.*WrappedGaussian"),
    "length": (lambda: SE3(length=0.0), ValueError, "positive length"),
    "scale": (lambda: Euclidean(2, scale=-1.0), ValueError, "positive scale"),
    "dimension": (lambda: Euclidean(0), ValueError, "n >= 1"),
    "no factors": (lambda: Product(), ValueError, "at least one factor"),
    "no manifold": (lambda: Product(3), TypeError, "Manifolds; got 3"),
}


@pytest.mark.parametrize("case", CASES)
def test_sentence(case):
    call, error, pattern = CASES[case]
    with pytest.raises(error, match=pattern):
        call()


def test_project_mends_what_check_refuses():
    for space, bad in ((SE3(), x * 1.2), (SO3(), q * 3), (Product(SO3(), Euclidean(2)), torch.ones(4, 6))):
        with pytest.raises(ValueError, match="unit"):
            space.check(bad)
        assert space.check(space.project(bad)) is not None


def test_messages_name_functions_that_exist():
    """Every geoflow.something named in a message of these packages resolves."""
    source = Path(geoflow.__file__).parent
    text = "".join(p.read_text() for package in ("lie", "manifolds") for p in (source / package).glob("*.py"))
    names = set(re.findall(r"geoflow\.(?:lie\.\w+\.)?\w+(?=[ ,.)]|$)", text))
    called = {n for n in names if n.split(".")[1] in ("lie", "WrappedGaussian")}
    assert called
    for name in called:
        target = geoflow
        for part in name.split(".")[1:]:
            target = getattr(target, part)
