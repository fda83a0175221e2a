"""The MJCF scene of a tabletop task from primitives: engine options, looks, light, cameras, table, bodies."""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, pi, sin

TIMESTEP = 0.002
# Of a joint that may be pushed against its end:
FIRM_LIMIT = 'solreflimit=".005 1" solimplimit=".99 .999 .001"'

# Engine options are chosen for a firm grasp at speed: elliptic cones with impratio 10 hold a peg to 0.6 mm in
# 5 s; the contact time constant (.005) may not go under two time steps.
_HEADER = f"""
<compiler angle="radian" autolimits="true"/>
<option timestep="{TIMESTEP}" integrator="implicitfast" cone="elliptic" impratio="10" iterations="50"/>
<size memory="4M"/>
<default>
  <geom solref=".005 1" solimp=".95 .99 .001" friction=".6 .005 .0001"/>
  <default class="visual"><geom contype="0" conaffinity="0" group="2" mass="0"/></default>
  <default class="slippery"><geom friction=".3 .005 .0001"/></default>
</default>
<statistic center=".5 0 .15" extent=".8"/>
<visual>
  <headlight ambient=".42 .42 .45" diffuse=".35 .35 .35" specular=".1 .1 .1"/>
  <global offwidth="1280" offheight="960"/>
  <quality shadowsize="2048" offsamples="4"/>
  <map znear=".02" zfar="8" shadowclip=".8"/>
</visual>
<asset>
  <texture name="sky" type="skybox" builtin="gradient"
    rgb1=".93 .95 .97" rgb2=".62 .69 .77" width="64" height="384"/>
  <texture name="mat" type="2d" builtin="checker"
    rgb1=".80 .79 .76" rgb2=".75 .74 .71" width="128" height="128"/>
  <material name="table" texture="mat" texrepeat="12 12" texuniform="false" specular=".1" reflectance="0"/>
  <material name="peg" rgba=".91 .42 .16 1" specular=".5" shininess=".6"/>
  <material name="peg_end" rgba=".99 .86 .55 1" specular=".3"/>
  <material name="socket" rgba=".20 .42 .62 1" specular=".4" shininess=".5"/>
  <material name="stand" rgba=".33 .37 .42 1" specular=".3"/>
  <material name="shell" rgba=".93 .94 .95 1" specular=".5" shininess=".7"/>
  <material name="joint" rgba=".30 .33 .37 1" specular=".4" shininess=".5"/>
  <material name="finger" rgba=".55 .58 .62 1" specular=".5"/>
  <material name="pad" rgba=".12 .13 .14 1" specular=".1"/>
</asset>
"""

# Where each camera stands, its x and y axes, its field of view in degrees; both see all of the workspace.
CAMERAS = {
    "front": ("1.25 -.82 .72", ".740 .672 0 -.306 .337 .890", 42),
    "side": (".5 -1.05 .36", "1 0 0 0 .24 .97", 40),
}
_CAMERAS = "".join(
    f'<camera name="{name}" pos="{position}" xyaxes="{axes}" fovy="{angle}"/>'
    for name, (position, axes, angle) in CAMERAS.items()
)

_TABLE = f"""
<light name="key" pos=".1 -.9 1.6" dir=".25 .6 -1" diffuse=".55 .53 .50"
  specular=".3 .3 .3" castshadow="true"/>
<light name="fill" pos="1.2 1.0 1.3" dir="-.5 -.7 -.9" diffuse=".22 .23 .26" castshadow="false"/>
{_CAMERAS}
<geom name="table" type="box" size=".55 .6 .03" pos=".4 0 -.03" material="table"/>
"""


def mjcf(bodies: Sequence[str], sections: Sequence[str] = (), name: str = "geoflow") -> str:
    """A whole MJCF document: `bodies` go into the world, `sections` beside it (actuators, equalities, ...)."""
    world = "\n".join([_TABLE, *bodies])
    return f'<mujoco model="{name}">{_HEADER}<worldbody>{world}</worldbody>{"".join(sections)}</mujoco>'


def box(size: Sequence[float], pos: Sequence[float] = (0, 0, 0), **attributes: object) -> str:
    """One box geom; `size` are half lengths [m]."""
    extra = " ".join(f'{key.rstrip("_")}="{value}"' for key, value in attributes.items())
    return f'<geom type="box" size="{_row(size)}" pos="{_row(pos)}" {extra}/>'


def free_body(name: str, inner: str) -> str:
    """A body that moves freely; its joint is called `<name>_free`."""
    return f'<body name="{name}"><freejoint name="{name}_free"/>{inner}</body>'


def placed_body(name: str, inner: str) -> str:
    """A fixed body whose pose each reset sets (a mocap body: no recompilation, no stale model constants)."""
    return f'<body name="{name}" mocap="true">{inner}</body>'


def placed(pose: Sequence[float], inner: str) -> str:
    """Geoms at a pose (x y z qw qx qy qz) of their body."""
    return f'<frame pos="{_row(pose[:3])}" quat="{_row(pose[3:])}">{inner}</frame>'


def well(x: float, y: float, depth: float, wall: float, chamfer: bool = False) -> str:
    """Walls and floor around a cavity of half widths x and y [m]; its origin is the mouth's middle, z out of it."""
    look = {"material": "socket", "class_": "slippery"}
    walls = "".join(
        box((wall / 2, y + wall, depth / 2), (side * (x + wall / 2), 0, -depth / 2), **look)
        + box((x, wall / 2, depth / 2), (0, side * (y + wall / 2), -depth / 2), **look)
        for side in (1, -1)
    )
    floor = box((x + wall, y + wall, wall / 2), (0, 0, -depth - wall / 2), **look)
    return walls + floor + (_chamfer(x, y, look) if chamfer else "")


def _chamfer(x: float, y: float, look: dict[str, str]) -> str:
    """Four plates that rise outward at 45 degrees from the mouth's edges."""
    half, thin = 0.008, 0.002
    out = (half - thin) * cos(pi / 4)  # the inner edge of a plate's upper face lies on the mouth's edge
    up = (half - thin) * sin(pi / 4)
    plates = ""
    for side in (1, -1):
        plates += box(
            (half, y + 2 * out, thin),
            (side * (x + out + 2 * thin * cos(pi / 4)), 0, up),
            euler=f"0 {-side * pi / 4} 0",
            **look,
        )
        plates += box(
            (x + 2 * out, half, thin),
            (0, side * (y + out + 2 * thin * cos(pi / 4)), up),
            euler=f"{side * pi / 4} 0 0",
            **look,
        )
    return plates


def _row(values: Sequence[float]) -> str:
    return " ".join(f"{value:.6g}" for value in values)
