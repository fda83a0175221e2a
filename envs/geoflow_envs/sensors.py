"""What cameras see, as observations: colour, depth, which body, and points in the world by p = c + R K^-1 (u, v, d)."""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's functions live in a compiled module without stubs.)
from __future__ import annotations

from collections.abc import Sequence
from math import radians, tan

import mujoco
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from .rendering import renderer

POINTS = "points"  # the observation's name, and its kind
FAR = 5.0  # depth of what is farther, the sky among it [m]
_POINTS_BOX = np.array([[0.0, -0.65, -0.01], [1.0, 0.65, 0.8]])  # points outside are dropped [m]
_BACKGROUND, _TABLE, _ROBOT, _OTHER, _FIRST_BODY = 0, 1, 2, 3, 4


class CameraSensors:
    """Square pictures of one model from named cameras; the OpenGL context starts with the first.

    Shadows, reflections and multisampling are off: a small frame takes a few milliseconds in software.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        cameras: Sequence[str],
        size: int,
        depth: bool,
        segmentation: bool,
        points: int,
        bodies: Sequence[str],
    ) -> None:
        """`bodies` are told apart in the segmentation; raises ValueError for what cannot be seen."""
        known = [model.camera(index).name for index in range(model.ncam)]
        if isinstance(cameras, str) or not cameras or not set(cameras) <= set(known):
            raise ValueError(
                f"cameras must be a tuple of names out of {', '.join(map(repr, known))}; got {cameras!r}."
            )
        most = min(model.vis.global_.offwidth, model.vis.global_.offheight)
        if isinstance(size, bool) or not isinstance(size, int) or not 16 <= size <= most:
            raise ValueError(f"image_size is in pixels a side, from 16 to {most}; got {size!r}.")
        if isinstance(points, bool) or not isinstance(points, int) or points < 0:
            raise ValueError(f"point_cloud is a number of points, 0 for none; got {points!r}.")
        self.model, self.cameras, self.size = model, tuple(cameras), size
        self.depth, self.segmentation, self.points = bool(depth), bool(segmentation), points
        self.labels = _labels(model, bodies)
        self.spaces: dict[str, Box] = {}
        for camera in self.cameras:
            self.spaces[f"{camera}_rgb"] = Box(0, 255, (size, size, 3), np.uint8)
            if depth:
                self.spaces[f"{camera}_depth"] = Box(0.0, FAR, (size, size, 1), np.float32)
            if segmentation:
                self.spaces[f"{camera}_segmentation"] = Box(0, 255, (size, size, 1), np.uint8)
        if points:
            self.spaces[POINTS] = Box(-10.0, 10.0, (points, 3), np.float32)
        self.kinds = {name: POINTS if name == POINTS else "image" for name in self.spaces}
        self._renderer: mujoco.Renderer | None = None

    @property
    def places(self) -> dict[str, list[float]]:
        """Picture -> where its camera is on its body (x y z qw qx qy qz) and its vertical field of view [degrees]."""
        stands = {}
        for name in self.cameras:
            camera = self.model.camera(name)
            stands[name] = [*camera.pos.tolist(), *camera.quat.tolist(), float(camera.fovy[0])]
        return {name: stands[name.rpartition("_")[0]] for name, kind in self.kinds.items() if kind == "image"}

    def observe(self, data: mujoco.MjData) -> dict[str, NDArray[np.generic]]:
        """The observations of `spaces` by name."""
        if self._renderer is None:
            self._renderer = self._start()
        mujoco.mj_camlight(self.model, data)  # the wrist camera moves with the hand
        seen: dict[str, NDArray[np.generic]] = {}
        clouds = []
        for camera in self.cameras:
            self._renderer.update_scene(data, camera=camera)
            seen[f"{camera}_rgb"] = self._renderer.render().copy()
            if self.depth or self.points:
                self._renderer.enable_depth_rendering()
                depth = np.minimum(self._renderer.render(), FAR)
                self._renderer.disable_depth_rendering()
                if self.depth:
                    seen[f"{camera}_depth"] = depth[..., None].copy()
                if self.points:
                    clouds.append(self._cloud(data, camera, depth))
            if self.segmentation:
                self._renderer.enable_segmentation_rendering()
                seen[f"{camera}_segmentation"] = self._named(self._renderer.render())[..., None]
                self._renderer.disable_segmentation_rendering()
        if self.points:
            seen[POINTS] = _spread(np.concatenate(clouds), self.points)
        return seen

    def close(self) -> None:
        """Free the OpenGL context, if there is one."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _start(self) -> mujoco.Renderer:
        quality = self.model.vis.quality
        before = quality.offsamples, quality.shadowsize
        quality.offsamples, quality.shadowsize = 0, 0
        try:
            started = renderer(self.model, self.size, self.size)
        finally:
            quality.offsamples, quality.shadowsize = before
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            started.scene.flags[flag] = 0
        return started

    def _named(self, picture: NDArray[np.int32]) -> NDArray[np.uint8]:
        geom, kind = picture[..., 0], picture[..., 1]
        is_geom = kind == int(mujoco.mjtObj.mjOBJ_GEOM)
        return np.where(is_geom, self.labels[np.where(is_geom, geom, 0)], _BACKGROUND).astype(np.uint8)

    def _cloud(self, data: mujoco.MjData, camera: str, depth: NDArray[np.float32]) -> NDArray[np.float64]:
        """World points (n, 3) of a depth picture; a camera looks along -z, with x right and y up."""
        index = self.model.camera(camera).id
        half = tan(radians(self.model.cam_fovy[index]) / 2)
        grid = (np.arange(self.size) + 0.5) / self.size * 2 - 1
        right, down = np.meshgrid(grid * half, grid * half)
        local = np.stack([right * depth, -down * depth, -depth], axis=-1).reshape(-1, 3)
        points = local @ data.cam_xmat[index].reshape(3, 3).T + data.cam_xpos[index]
        inside = ((points > _POINTS_BOX[0]) & (points < _POINTS_BOX[1])).all(axis=1)
        return points[inside & (depth.reshape(-1) < FAR)]


def _labels(model: mujoco.MjModel, bodies: Sequence[str]) -> NDArray[np.uint8]:
    """What each geom belongs to: 1 table, 2 robot, 3 other, 4 and up `bodies` in their order."""
    root = {model.body(name).id: _FIRST_BODY + index for index, name in enumerate(bodies)}
    labels = np.full(model.ngeom, _OTHER, np.uint8)
    for geom in range(model.ngeom):
        body = model.geom_bodyid[geom]
        if body == 0:
            labels[geom] = _TABLE if model.geom(geom).name == "table" else _OTHER
            continue
        while body and body not in root:
            if model.body(body).name.partition("_")[0] in ("hand", "base"):
                labels[geom] = _ROBOT
                break
            body = model.body_parentid[body]
        if body in root:
            labels[geom] = root[body]
    return labels


def _spread(points: NDArray[np.float64], count: int) -> NDArray[np.float32]:
    """`count` of the points at even steps through the pictures, repeated where there are fewer; zeros without any."""
    if len(points) == 0:
        return np.zeros((count, 3), np.float32)
    return points[np.linspace(0, len(points) - 1, count).round().astype(int)].astype(np.float32)
