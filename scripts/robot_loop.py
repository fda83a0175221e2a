"""A robot's side of an exported policy: onnxruntime and numpy, nothing else.

geoflow export runs/peg_se3 --out policy.onnx --nfe 4      # faster: --weights int8 --demos demos/peg.h5
python scripts/robot_loop.py policy.onnx 100             # 100 held-out scenes of the simulated task, if it is installed
"""

import json
import sys
import time
from collections import deque

import numpy as np
import onnxruntime


class Robot:
    """One action at a time from an exported policy; ``observe`` gives name -> array, ``command`` takes an action."""

    def __init__(self, path: str, seed: int = 0) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # at batch 1 more threads only wait, and spin while they do
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.facts = json.loads(self.session.get_modelmeta().custom_metadata_map["geoflow"])
        self.rng = np.random.default_rng(seed)
        inputs = [x for x in self.session.get_inputs() if x.name != "noise"]
        self.types = {x.name: np.uint8 if x.type == "tensor(uint8)" else np.float32 for x in inputs}
        self.steps = inputs[0].shape[1]
        self.reset()

    def reset(self) -> None:
        """Forget the chunk and what was seen: an episode begins."""
        self.past, self.plan = deque(maxlen=self.steps), deque()

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        """The next action for an observation name -> (d,); a chunk is predicted when the last one is executed."""
        present = {name: self.checked(name, obs.get(name)) for name in self.types}
        self.past.extend([present] * (1 if self.past else self.steps))
        if not self.plan:
            chunk = self.chunk({name: np.stack([seen[name] for seen in self.past]) for name in present})
            self.plan.extend(chunk[: self.facts["execute"]])
        return self.plan.popleft()

    def checked(self, name: str, value) -> np.ndarray:
        """A copy of an observation, or ValueError: the graph itself would make a motion of anything."""
        x, kind, shape = np.array(value), self.types[name], tuple(self.facts["inputs"][name][2:])
        good = x.shape == shape and np.can_cast(x.dtype, kind, "same_kind") and np.isfinite(x).all()
        unit = "" if name not in self.facts["poses"] else ", the last four a unit quaternion"
        if not good or (unit and abs(np.linalg.norm(x[3:]) - 1) > 0.1):
            wanted = f"finite numbers of shape {shape}, to be cast to {kind.__name__}{unit}"
            raise ValueError(f"observation {name!r} is {value!r}; expected {wanted}.")
        return x.astype(kind, copy=False)

    def chunk(self, window: dict[str, np.ndarray]) -> np.ndarray:
        """The next actions (T, 7 + k) for observations name -> (To, ...), the present one last."""
        feeds = {name: np.asarray(window[name], kind)[None] for name, kind in self.types.items()}
        noise = self.rng.standard_normal(self.facts["inputs"]["noise"]).astype(np.float32)
        return np.asarray(self.session.run(None, {"noise": noise, **feeds})[0])[0]

    def run(self, observe, command, steps: int) -> None:
        """``steps`` times at the policy's rate: observe, command. What is late is not caught up with."""
        self.reset()
        period, due = 1 / self.facts["control_hz"], time.perf_counter()
        for _ in range(steps):
            time.sleep(max(0.0, due - time.perf_counter()))
            command(self.act(observe()))
            late = time.perf_counter() - due
            due += period if late < period else late + period


def main() -> None:
    """Play held-out scenes of the task that the policy was trained on, as its demonstrations were made."""
    import gymnasium

    robot, scenes = Robot(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    env = gymnasium.make(robot.facts["env_id"], **robot.facts["env_kwargs"])
    solved = 0
    for scene in range(scenes):
        obs, info = env.reset(seed=1_000_000 + scene)
        robot.reset()
        over = False
        while not over:
            obs, _, ended, cut, info = env.step(robot.act(obs))
            over = ended or cut
        solved += info["is_success"]
    print(f"solved {solved} of {scenes}")


if __name__ == "__main__":
    main()
