"""Which action is executed when: receding horizon, delays, ensembles, and a real thread at a wall clock."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch

import geoflow as gf
from geoflow.data.chunks import Chunks
from geoflow.lie import se3
from geoflow.policies.base import Onward, PolicySpec
from geoflow.policies.checkpoint import build_policy
from geoflow.policies.chunking import ChunkBroker
from geoflow.policies.config import PolicyConfig
from geoflow.policies.execution import Execution, Executor, average
from geoflow.policies.joining import join
from geoflow.policies.realtime import RealTimeBroker

HORIZON = 8


@pytest.fixture(scope="module")
def policy(demos):
    return small(demos)


def small(demos, **options):
    torch.manual_seed(0)
    config = PolicyConfig(width=32, depth=1, horizon=HORIZON, execute=4, nfe=2, **options)
    chunks = Chunks(demos, horizon=HORIZON, observation_steps=1)
    policy = build_policy(config, PolicySpec.of(chunks))
    policy.fit(chunks)
    return policy.eval()


def observations(policy, n, seed=0):
    """Observations of ``n`` ticks, in which the hand moves a little."""
    generator = torch.Generator().manual_seed(seed)
    ticks = []
    for _ in range(n):
        obs = {}
        for name, kind in policy.spec.kinds.items():
            x = 0.1 * torch.randn(policy.spec.shapes[name], generator=generator)
            if kind == "pose":
                x = se3.exp(x[:6])
            obs[name] = x.numpy()
        ticks.append(obs)
    return ticks


class Recorder:
    """A policy whose chunks say which prediction and which step they are: actions[..., 0] = 100 n + step."""

    def __init__(self, policy):
        self.config, self.spec, self.check_manner = policy.config, policy.spec, policy.check_manner
        self.onward, self.seen = [], []

    def act(self, obs, generator=None, onward=None, **options):
        batch = len(next(iter(obs.values()))) if next(iter(obs.values())).ndim == 3 else 1
        chunk = torch.zeros(batch, HORIZON, self.spec.action_dim)
        chunk[..., 3] = 1
        chunk[..., 0] = 100 * len(self.onward) + torch.arange(HORIZON)
        self.onward.append(onward)
        return chunk if next(iter(obs.values())).ndim == 3 else chunk[0]


def play(policy, execution, ticks):
    recorder = Recorder(policy)
    executor = Executor(recorder, execution)  # pyright: ignore[reportArgumentType]
    window = {name: torch.zeros(1, 1, *shape) for name, shape in policy.spec.shapes.items()}
    return recorder, [float(executor.act(window, [0])[0, 0]) for _ in range(ticks)]


def test_receding_horizon(policy):
    """Steps 0 to 3 of each chunk."""
    assert play(policy, Execution(4), 9)[1] == [0, 1, 2, 3, 100, 101, 102, 103, 200]


def test_a_delay_lets_the_last_chunk_go_on(policy):
    """Chunk n is asked for at tick 4 n and takes over 3 ticks later, at its own step 3."""
    assert play(policy, Execution(4, delay=3), 13)[1] == [0, 1, 2, 3, 4, 5, 6, 103, 104, 105, 106, 203, 204]


def test_a_joined_chunk_goes_on_from_what_was_executed(policy):
    """It knows nothing of the chunk under way; when it takes over, it begins with that one's pose and step."""
    recorder, actions = play(policy, Execution(4, delay=3, manner="joined"), 13)
    assert recorder.onward == [None] * 4
    chunk = torch.zeros(1, HORIZON, policy.spec.action_dim)
    chunk[..., 3] = 1
    chunk[..., 0] = 100 + torch.arange(HORIZON)
    executed = torch.zeros(1, 2, policy.spec.action_dim)
    executed[..., 3] = 1
    executed[..., 0] = torch.tensor([5.0, 6.0])
    expected = join(chunk, executed, 3, policy.spec.control_hz)[0, :, 0].tolist()
    assert actions[:7] == [0, 1, 2, 3, 4, 5, 6]
    assert actions[7:11] == pytest.approx(expected[:4])
    assert actions[7] < 20
    assert play(policy, Execution(4, manner="joined"), 9)[1] == play(policy, Execution(4), 9)[1]


def test_guided_predictions_know_what_goes_on(policy):
    """They are given what is left of the chunk under way, and how much of it will have been executed."""
    recorder, _ = play(policy, Execution(4, delay=3, manner="guided"), 9)
    assert recorder.onward[0] is None
    assert recorder.onward[1].delay == 3
    assert recorder.onward[1].actions[0, :, 0].tolist() == [4, 5, 6, 7]
    assert recorder.onward[2].actions[0, :, 0].tolist() == [104, 105, 106, 107]


def test_an_ensemble_averages_all_that_reach_the_step(policy):
    """Oldest first, weights exp(-m i); after 8 ticks a chunk has nothing more to say."""
    m = 0.5
    _, actions = play(policy, Execution(2, ensemble=m), 10)
    w = np.exp(-m * np.arange(4))
    expected = (
        w * [8 - 1, 100 + 5, 200 + 3, 300 + 1]
    ).sum() / w.sum()  # tick 7: predictions of ticks 0, 2, 4, 6
    assert actions[7] == pytest.approx(expected, rel=1e-6)
    assert actions[9] == pytest.approx((w * [107, 205, 303, 401]).sum() / w.sum(), rel=1e-6)


def test_poses_are_averaged_on_the_group():
    """The mean of two rotations is half way along the geodesic, whatever the signs of their quaternions."""
    a, b = se3.exp(torch.tensor([[0.1, 0, 0, 0, 0, 0.4], [0.3, 0, 0, 0, 0, 1.4]], dtype=torch.float64))
    b = torch.cat([b[:3], -b[3:]])
    mean = average(torch.stack([a, b]).numpy(), 0.0)
    half, _ = se3.geodesic(a, b, 0.5)
    assert gf.SE3().distance(torch.from_numpy(mean), half) < 1e-6


def test_the_broker_is_the_executor_of_one_scene(policy):
    """ChunkBroker gives the steps of policy.act's chunks, drawn with the same generator."""
    ticks = observations(policy, 9)
    broker = ChunkBroker(policy, generator=torch.Generator().manual_seed(3))
    acted = np.stack([broker.act(obs) for obs in ticks])
    generator = torch.Generator().manual_seed(3)
    chunks = [policy.act({n: v[None] for n, v in ticks[i].items()}, generator=generator) for i in (0, 4, 8)]
    np.testing.assert_array_equal(acted, torch.cat([chunks[0][:4], chunks[1][:4], chunks[2][:1]]).numpy())


@pytest.mark.parametrize("manifold", ["SE3", "R3xSO3", "Euclidean"])
@pytest.mark.parametrize("target", ["endpoint", "velocity"])
def test_a_guided_chunk_begins_nearer_to_what_goes_on(demos, manifold, target):
    policy = small(demos, manifold=manifold, target=target)
    obs = {n: torch.from_numpy(v)[None, None] for n, v in observations(policy, 1)[0].items()}
    going = policy.act(obs, generator=torch.Generator().manual_seed(1))
    free = policy.act(obs, nfe=10, generator=torch.Generator().manual_seed(2))
    guided = policy.act(obs, nfe=10, generator=torch.Generator().manual_seed(2), onward=Onward(going, 4))

    def away(chunk):
        return gf.SE3().distance(chunk[:, :4, :7], going[:, :4, :7]).mean()

    assert away(guided) < 0.8 * away(free)


@pytest.mark.parametrize(
    ("execution", "says"),
    [
        (lambda: Execution(4, delay=5), "between 0 and execute"),
        (lambda: Execution(4, delay=-1), "between 0 and execute"),
        (lambda: Execution(4, manner="fast"), "naive, joined, guided, given"),
        (lambda: Execution(4, warm_start=1.0), "in \\(0, 1\\)"),
        (lambda: Execution(4, manner="guided", warm_start=0.5), "begins at noise"),
        (lambda: Execution(4, ensemble=-1.0), "m >= 0"),
        (lambda: Execution(4, ensemble=0.1, manner="joined"), "takes over from none"),
        (lambda: Execution(4, delay=2, ensemble=0.1, manner="given"), "goes on with none"),
        (lambda: Execution(6, delay=3).check(8), "need a chunk of 9"),
        (lambda: Execution(9).check(8), "between 1 and the policy's horizon 8"),
    ],
)
def test_impossible_executions(execution, says):
    with pytest.raises(ValueError, match=says):
        execution()


def test_a_diffusion_policy_cannot_be_guided(demos):
    policy = small(demos, type="ddpm")
    with pytest.raises(ValueError, match="naive"):
        Executor(policy, Execution(4, delay=2, manner="guided"))


@pytest.mark.parametrize("shape", [(1, 9, 8), (2, 4, 8), (1, 4, 7)])
def test_a_chunk_of_another_shape_cannot_go_on(policy, shape):
    obs = {n: torch.from_numpy(v)[None, None] for n, v in observations(policy, 1)[0].items()}
    with pytest.raises(ValueError, match="to go on with"):
        policy.act(obs, onward=Onward(torch.zeros(shape), 0))


# With a thread.


class Slow(Recorder):
    """Predictions after the first end when the test says so."""

    def __init__(self, policy):
        super().__init__(policy)
        self.go = threading.Semaphore(1)

    def act(self, obs, generator=None, onward=None, **options):
        self.go.acquire()
        return super().act(obs, generator, onward)


def settled(broker):
    """Wait until the prediction under way is there."""
    broker._pending[1].result(timeout=10)


def test_actions_go_on_while_a_thread_predicts(policy):
    slow, obs = Slow(policy), observations(policy, 1)[0]
    with RealTimeBroker(slow, execute=3, manner="guided") as broker:  # pyright: ignore[reportArgumentType]
        acted = [broker.act(obs)[0] for _ in range(6)]  # asked for at tick 3, still not there at tick 5
        assert acted == [0, 1, 2, 3, 4, 5]
        slow.go.release()
        settled(broker)
        assert broker.act(obs)[0] == 103  # tick 6: step 3 of the chunk that was made at tick 3
        assert list(broker.delays)[-1] == 3
        slow.go.release()
        settled(broker)  # asked for again in tick 6
        assert broker.act(obs)[0] == 201
        assert slow.onward[2].delay == 3  # the largest of the last delays
        assert slow.onward[2].actions[:, 0].tolist() == [103, 104, 105, 106, 107]
        assert broker.waits == 0


@pytest.mark.parametrize("late", [2, 4])
def test_it_is_joined_however_long_it_took(policy, late):
    """To what was executed until it came, not until it was foreseen; and with a step as large as the last one."""
    slow, obs = Slow(policy), observations(policy, 1)[0]
    with RealTimeBroker(slow, execute=3) as broker:  # pyright: ignore[reportArgumentType]
        acted = [broker.act(obs) for _ in range(3 + late)]  # asked for at tick 3
        slow.go.release()
        settled(broker)
        acted += [broker.act(obs) for _ in range(HORIZON - 1 - late)]
        assert list(broker.delays)[-1] == late
        slow.go.release()  # asked for again meanwhile
    executed = torch.from_numpy(np.stack(acted[1 + late : 3 + late]))
    chunk = Recorder(policy).act({"tcp": np.zeros(7)}, onward=1)
    chunk[..., 0] += 100
    expected = join(chunk[None], executed[None], late, policy.spec.control_hz)[0, : HORIZON - 1 - late]
    np.testing.assert_allclose(np.stack(acted[3 + late :]), expected.numpy(), rtol=1e-6)
    assert acted[3 + late][0] - acted[2 + late][0] < 20


def test_a_chunk_that_runs_out_is_waited_for(policy):
    slow, obs = Slow(policy), observations(policy, 1)[0]
    with RealTimeBroker(slow, execute=3, manner="naive") as broker:  # pyright: ignore[reportArgumentType]
        assert [broker.act(obs)[0] for _ in range(HORIZON)] == list(range(HORIZON))
        threading.Timer(0.05, slow.go.release).start()
        assert broker.act(obs)[0] == 105  # tick 8, of the chunk made at tick 3
        assert broker.waits == 1


def test_what_a_prediction_raises_is_raised(policy):
    obs = observations(policy, 1)[0]
    with RealTimeBroker(policy, execute=1) as broker:
        broker.act(obs)
        broker.act({"tcp": obs["tcp"]})  # begins a prediction that cannot succeed
        assert broker._pending is not None
        assert broker._pending[1].exception(timeout=10) is not None
        with pytest.raises(ValueError, match="missing"):
            broker.act(obs)


def test_the_clock_is_kept(policy):
    """Commands come at the control rate, one for each observation, while a real policy predicts."""
    ticks, commands = iter(observations(policy, 12)), []
    with RealTimeBroker(policy) as broker:
        late = broker.run(lambda: next(ticks), commands.append, steps=12)
    assert len(commands) == len(late) == 12
    assert (late >= 0).all()
    assert all(np.isfinite(command).all() for command in commands)


def test_a_robot_is_not_sent_what_it_missed_at_once(policy):
    """The first chunk takes four periods; the commands after it still come a period apart."""
    period = 1 / policy.spec.control_hz
    slow, obs, times = Slow(policy), observations(policy, 1)[0], []
    slow.go.acquire()
    threading.Timer(4 * period, slow.go.release).start()
    with RealTimeBroker(slow, execute=6, manner="naive") as broker:  # pyright: ignore[reportArgumentType]
        broker.run(lambda: obs, lambda action: times.append(time.perf_counter()), steps=6)
    assert times[-1] - times[0] > 4.5 * period


def test_a_chunk_that_was_waited_for_is_no_measure_of_delay(policy):
    """The first call, which a compiler may hold up, lasts eight periods; nor does an episode's first one count."""
    slow, obs = Slow(policy), observations(policy, 1)[0]
    with RealTimeBroker(slow, execute=3, manner="guided") as broker:  # pyright: ignore[reportArgumentType]
        for episode in range(2):
            slow.go.acquire()
            threading.Timer(8 / policy.spec.control_hz, slow.go.release).start()
            for _ in range(8):
                broker.act(obs)
                if broker._pending is not None:
                    slow.go.release()
                    settled(broker)
            assert list(broker.delays) == [1, 1] * (episode + 1)
            broker.reset()
            slow.go.release()
    assert [onward and onward.delay for onward in slow.onward] == [None, 1, 1] * 2


def test_an_action_can_be_clipped_in_place(policy):
    obs = observations(policy, 1)[0]
    with RealTimeBroker(policy, execute=4) as broker:
        action = broker.act(obs)
        action[:] = 0
        assert broker._plan is not None
        assert broker._plan.actions[0].any()
        assert broker._commands[0].any()


def test_what_a_closed_broker_says(policy):
    with RealTimeBroker(policy) as broker:
        pass
    with pytest.raises(ValueError, match="closed"):
        broker.act(observations(policy, 1)[0])


def test_after_a_prediction_that_failed_the_next_one_succeeds(policy):
    """As if the observation that was refused had not been there."""
    obs = observations(policy, 1)[0]
    broker, other = (
        ChunkBroker(policy, execute=3, generator=torch.Generator().manual_seed(0)) for _ in range(2)
    )
    for step in range(7):
        if step % 3 == 0:
            with pytest.raises(ValueError, match="missing"):
                broker.act({"tcp": obs["tcp"]})
        np.testing.assert_array_equal(broker.act(obs), other.act(obs))
        assert len(broker.left) == policy.config.horizon - step % 3
