"""Parts of the toolbox by name: what is built, and that nothing else is evaluated."""

import sys
import types

import pytest

from geoflow.flows import Cosine, Exponential, Geodesic, Power, independent
from geoflow.policies.expressions import build

KNOWN = {"Geodesic": Geodesic, "Power": Power, "Cosine": Cosine, "Exponential": Exponential}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Geodesic()", Geodesic()),
        ("Geodesic(Exponential(-2.5))", Geodesic(Exponential(-2.5))),
        ("Geodesic(clock=Power(p=2))", Geodesic(Power(2))),
        ("Geodesic((Cosine(), Power(3)))", Geodesic((Cosine(), Power(3)))),
    ],
)
def test_calls_are_built(text, expected):
    assert build("policy.path", text, KNOWN) == expected


def test_a_bare_name_is_the_value_itself():
    assert build("policy.coupling", "independent", {"independent": independent}) is independent


def test_own_parts_by_module(monkeypatch):
    lab = types.ModuleType("some_lab")
    lab.Slow = lambda p: Power(p)  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "some_lab", lab)
    assert build("policy.clock", "some_lab:Slow(4)", KNOWN) == Power(4)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Geodesik()", "Did you mean Geodesic"),
        ("Power(0.5)", "below 1 the speed"),
        ("Power()", "missing 1 required positional argument"),
        ("Geodesic(", "no expression"),
        ("__import__('os').system('true')", "neither a number"),
        ("__import__('os')", "'__import__' is unknown"),
        ("Geodesic(open('x'))", "'open' is unknown"),
        ("Power(**1)", "neither a number"),
        ("[p for p in (1, 2)]", "neither a number"),
        ("no_such_lab:Path()", "cannot be imported"),
        ("geoflow.flows:Pat()", "has no 'Pat'"),
    ],
)
def test_everything_else_is_refused(text, says):
    with pytest.raises(ValueError, match=r"policy\.path") as refusal:
        build("policy.path", text, KNOWN)
    assert says in str(refusal.value)
