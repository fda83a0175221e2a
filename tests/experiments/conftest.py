import pytest

from geoflow.experiments.collection import collect
from geoflow.experiments.config import CollectConfig, Config, EnvConfig, TrainConfig
from geoflow.experiments.training import train
from geoflow.policies.config import PolicyConfig

REACH = EnvConfig("tests.reach_env:tests/Reach-v0", {"tolerance": 0.025})


@pytest.fixture(scope="session")
def reach_run(tmp_path_factory):
    """A small flow that has learnt to reach: a whole run folder, not to be changed."""
    folder = tmp_path_factory.mktemp("reach")
    demos = folder / "reach.h5"
    collect(REACH, CollectConfig(episodes=40, workers=1, choice="greedy"), demos)
    policy = PolicyConfig(width=64, depth=2, horizon=8, execute=4)
    settings = TrainConfig(demos=str(demos), steps=500, batch_size=128, warmup=20, log_every=20)
    return train(Config(env=REACH, policy=policy, train=settings), folder / "run", seed=0, device="cpu")
