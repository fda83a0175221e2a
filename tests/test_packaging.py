"""A wheel holds the two packages and the configs, and works in an environment that has never seen this folder."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


def run(*command: object, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by the tools of this environment: nothing is downloaded."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with the wheel; what it depends on is borrowed from this one."""
    folder = tmp_path_factory.mktemp("clean") / "environment"
    venv.create(folder, symlinks=os.name != "nt")
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--no-deps",
        "--no-index",
        wheel,
        cwd=folder,
    )
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    # A path file of a path file's folder is not read: the editable install of this environment stays behind.
    (Path(site) / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def test_the_wheel_holds_the_two_packages_and_the_configs(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    ours = [name for name in names if ".dist-info/" not in name]
    data = [name.split(".data/")[1] for name in ours if ".data/" in name]
    assert {name.split("/")[0] for name in ours if ".data/" not in name} == {"geoflow", "geoflow_envs"}
    configs = [str(path.relative_to(ROOT)) for path in (ROOT / "configs").rglob("*.yaml")]
    assert sorted(data) == sorted(f"data/share/geoflow/{name}" for name in configs)
    tracked = run("git", "ls-files", "geoflow", "envs/geoflow_envs", cwd=ROOT).split()
    expected = {name.removeprefix("envs/") for name in tracked if (ROOT / name).exists()}
    assert expected <= set(names)
    assert {"geoflow/py.typed", "geoflow_envs/py.typed"} <= set(names)
    assert not [name for name in names if "__pycache__" in name or name.endswith((".h5", ".pyc"))]


def test_it_is_imported_from_the_clean_environment(python, tmp_path):
    code = "import geoflow, geoflow_envs, torch; print(geoflow.__file__, geoflow_envs.__file__, geoflow.__version__)"
    library, envs, version = run(python, "-c", code, cwd=tmp_path).split()
    for path in (library, envs):
        assert Path(path).is_relative_to(python.parents[1])
    assert version in (ROOT / "pyproject.toml").read_text()


LIGHT = """
import sys
for name in ("h5py", "yaml", "tqdm", "tyro", "gymnasium", "mujoco", "accelerate", "matplotlib", "rich"):
    sys.modules[name] = None  # as in the light install
import torch, geoflow as gf
space = gf.Product(gf.SE3(), gf.Euclidean(1))
flow = gf.Flow(space)
net = lambda features, t, cond: torch.zeros(*features.shape[:-1], space.tangent_dim)
chunk = flow.sample(net, cond=torch.zeros(2, 3), horizon=4, steps=2)
print(*flow.loss(net, chunk, cond=torch.zeros(2, 3)).shape, *chunk.shape)
"""


def test_a_flow_works_without_the_extras(python, tmp_path):
    assert run(python, "-c", LIGHT, cwd=tmp_path).split() == ["2", "2", "4", "8"]


def test_the_task_steps_and_the_command_answers(python, tmp_path):
    code = (
        "import gymnasium as gym; env = gym.make('geoflow_envs:geoflow/TiltedPegInsert-v0', level=0);"
        "env.reset(seed=0); print(env.step(env.action_space.sample())[0]['peg'].shape)"
    )
    assert run(python, "-c", code, cwd=tmp_path).strip() == "(7,)"
    assert "usage: geoflow COMMAND" in run(python.with_name("geoflow"), "--help", cwd=tmp_path)


def test_the_version_is_stated_once_in_words_that_agree():
    import geoflow

    assert f'version = "{geoflow.__version__}"' in (ROOT / "pyproject.toml").read_text()
