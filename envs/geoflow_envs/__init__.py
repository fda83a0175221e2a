"""geoflow_envs: gymnasium MuJoCo tasks whose action is an end-effector pose."""
