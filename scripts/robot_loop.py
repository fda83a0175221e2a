"""A robot's side of an exported policy: onnxruntime and numpy, nothing else.

geoflow export runs/peg_se3 --out policy.onnx --nfe 4      # faster: --weights int8 --demos demos/peg.h5
python scripts/robot_loop.py policy.onnx 100             # 100 held-out scenes of the simulated task, if it is installed
"""

import json
import sys

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

    def chunk(self, window: dict[str, np.ndarray]) -> np.ndarray:
        """The next actions (T, 7 + k) for observations name -> (To, ...), the present one last."""
        feeds = {
            name: np.asarray(window[name], np.float32)[None]
            for name in self.facts["inputs"]
            if name != "noise"
        }
        noise = self.rng.standard_normal(self.facts["inputs"]["noise"]).astype(np.float32)
        return np.asarray(self.session.run(None, {"noise": noise, **feeds})[0])[0]

    def run(self, observe, command, steps: int) -> None:
        """Observe, predict, execute the chunk's first actions, again."""
        past, done = [], 0
        while done < steps:
            past.append(observe())
            To = next(shape[1] for name, shape in self.facts["inputs"].items() if name != "noise")
            last = ([past[0]] * To + past)[-To:]
            for action in self.chunk({name: np.stack([o[name] for o in last]) for name in last[0]})[
                : self.facts["execute"]
            ]:
                command(action)
                done += 1


def main() -> None:
    """Play held-out scenes of the task that the policy was trained on, as its demonstrations were made."""
    import gymnasium

    robot, scenes = Robot(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    env = gymnasium.make(robot.facts["env_id"], **robot.facts["env_kwargs"])
    state: dict = {}

    def command(action: np.ndarray) -> None:
        if not state["over"]:
            state["obs"], _, ended, cut, state["info"] = env.step(action)
            state["over"] = ended or cut

    solved = 0
    for scene in range(scenes):
        obs, info = env.reset(seed=1_000_000 + scene)
        state.update(obs=obs, info=info, over=False)
        while not state["over"]:
            robot.run(lambda: state["obs"], command, steps=robot.facts["execute"])
        solved += state["info"]["is_success"]
    print(f"solved {solved} of {scenes}")


if __name__ == "__main__":
    main()
