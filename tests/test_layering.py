"""Imports point down: lie <- manifolds <- flows <- policies <- experiments <- cli; geoflow_envs stands apart."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY, ENVS = ROOT / "geoflow", ROOT / "envs" / "geoflow_envs"

MAY_IMPORT = {
    "lie": set(),
    "manifolds": {"lie"},
    "flows": {"lie", "manifolds"},
    "data": {"lie", "manifolds"},
    "policies": {"lie", "manifolds", "flows", "data"},
    "experiments": {"lie", "manifolds", "flows", "data", "policies"},
    "cli": {"data", "policies", "experiments"},
    "interop": {"lie", "manifolds", "flows", "data", "policies"},
}
"""Package of geoflow -> those of its packages that it may import."""
EXTERNAL = {
    "policies/backbones": {"torch"},
    "policies/encoders": {"torch"},
    "lie": {"torch", "numpy"},
    "manifolds": {"torch", "numpy"},
    "flows": {"torch", "numpy", "scipy", "safetensors"},
}
"""Folder -> what else it may import, beside the standard library."""
HELD_BACK = ("pytorch3d", "geoopt", "theseus", "torchlie", "torchkin", "lerobot", "minari")
"""Optional libraries, which only interop imports."""


def imports(path: Path, root: Path) -> Iterator[tuple[str, bool, int]]:
    """Module names that a file imports, whether only a type checker does, and the line."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typed = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for statement in block.body
        for node in ast.walk(statement)
    }
    package = path.relative_to(root.parent).parent.parts
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            # `from geoflow import lie` imports geoflow.lie
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "geoflow" else [module]
        for name in names:
            yield name, id(node) in typed, node.lineno


def sources(root: Path) -> list[Path]:
    return sorted(root.rglob("*.py"))


def layer(path: Path) -> str:
    return path.relative_to(LIBRARY).with_suffix("").parts[0]


def test_the_walk_sees_what_it_should(tmp_path):
    """An import of every form is found, so that the tests below cannot pass by blindness."""
    package = tmp_path / "geoflow" / "lie"
    package.mkdir(parents=True)
    (package / "x.py").write_text(
        "import geoflow.flows.flow\nfrom geoflow import data\nfrom ..policies import base\nfrom . import so3\n"
        "def f():\n    from geoflow.cli import main\n"
        "if TYPE_CHECKING:\n    import h5py\n"
    )
    assert {(name, typed) for name, typed, _ in imports(package / "x.py", tmp_path / "geoflow")} == {
        ("geoflow.flows.flow", False),
        ("geoflow.data", False),
        ("geoflow.policies", False),
        ("geoflow.lie", False),
        ("geoflow.cli", False),
        ("h5py", True),
    }


@pytest.mark.parametrize("path", sources(LIBRARY), ids=lambda path: str(path.relative_to(LIBRARY)))
def test_imports_point_down(path):
    own = layer(path)
    if own == "__init__":
        return  # the front door, which knows every name; what it loads is tested below
    for name, _, line in imports(path, LIBRARY):
        parts = name.split(".")
        if parts[0] != "geoflow" or len(parts) == 1:
            continue
        target = parts[1]
        if not (LIBRARY / target).exists() and not (LIBRARY / f"{target}.py").exists():
            continue  # a name of the front door, such as __version__
        assert target == own or target in MAY_IMPORT[own], f"{path}:{line} imports {name}: {own} may not"


@pytest.mark.parametrize("folder", EXTERNAL)
def test_the_core_imports_little(folder):
    known = EXTERNAL[folder] | {"geoflow"} | set(sys.stdlib_module_names)
    for path in sources(LIBRARY / folder):
        for name, _, line in imports(path, LIBRARY):
            assert name.split(".")[0] in known, f"{path}:{line} imports {name}"
            if folder.startswith("policies/"):
                inner = folder.replace("/", ".")
                geoflow_but_own = name.startswith("geoflow") and not name.startswith(f"geoflow.{inner}")
                assert not geoflow_but_own, f"{path}:{line} imports {name}: it knows no geometry"


@pytest.mark.parametrize(
    "path", [*sources(LIBRARY), *sources(ENVS)], ids=lambda path: str(path.relative_to(ROOT))
)
def test_optional_libraries_are_imported_by_interop_alone(path):
    if path.is_relative_to(LIBRARY / "interop"):
        return
    for name, _, line in imports(path, LIBRARY if path.is_relative_to(LIBRARY) else ENVS):
        assert name.split(".")[0] not in HELD_BACK, f"{path}:{line} imports {name}"
        assert not name.startswith("geoflow.interop"), f"{path}:{line} imports {name}: nobody imports interop"


@pytest.mark.parametrize(("root", "other"), [(LIBRARY, "geoflow_envs"), (ENVS, "geoflow")])
def test_geoflow_and_geoflow_envs_do_not_know_each_other(root, other):
    for path in sources(root):
        for name, _, line in imports(path, root):
            assert name.split(".")[0] != other, f"{path}:{line} imports {name}"


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after a statement."""
    code = f"{statement}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return set(done.stdout.split())


HEAVY = {
    "scipy",
    "geoopt",
    "h5py",
    "yaml",
    "tyro",
    "mujoco",
    "gymnasium",
    "accelerate",
    "tensorboard",
}
HEAVY |= {"matplotlib", "imageio", "rich", "tqdm", "safetensors", "jinja2"}


def test_import_geoflow_loads_nothing_heavier_than_torch_and_numpy():
    use = "import geoflow as gf; gf.Flow(gf.Product(gf.SE3(), gf.Euclidean(1))); gf.lie.se3; gf.SO3()"
    extra = loaded_by(use) & HEAVY
    # What torch itself drags in is torch's affair.
    assert extra <= loaded_by("import torch")


def test_the_command_line_starts_without_torch():
    assert not loaded_by("import geoflow.cli") & ({"torch", "numpy"} | HEAVY - {"tyro", "rich"})


def test_the_environments_need_no_torch():
    assert not loaded_by("import geoflow_envs") & {"torch", "h5py", "matplotlib", "geoflow"}
