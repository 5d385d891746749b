"""Task families, the batched simulator and the gymnasium environments.

Importing this package registers the families with gymnasium: `gymnasium.make("quickstudy/Grasp-v0")`, or with
`make_vec`. Nothing heavy is imported before an environment is made.
"""

import os
import sys

import gymnasium

# MuJoCo loads the OpenGL library that MUJOCO_GL names when it is imported, and cannot be imported where there is none.
# Physics needs no pictures: the choice is set aside until `envs.rendering` is asked for one.
CHOSEN_GL = os.environ.get("MUJOCO_GL", "")
if "mujoco" not in sys.modules:
    os.environ.pop("MUJOCO_GL", None)

GYMNASIUM_IDS = {
    "grasp": "quickstudy/Grasp-v0",
    "terrain": "quickstudy/Terrain-v0",
    "terrain-planar": "quickstudy/TerrainPlanar-v0",
    "bandit": "quickstudy/Bandit-v0",
    "point": "quickstudy/Point-v0",
    "cheetah-vel": "quickstudy/CheetahVel-v0",
    "cheetah-dir": "quickstudy/CheetahDir-v0",
    "cheetah-vel-2017": "quickstudy/CheetahVel2017-v0",
    "cheetah-dir-2017": "quickstudy/CheetahDir2017-v0",
    "ant-vel": "quickstudy/AntVel-v0",
    "ant-dir": "quickstudy/AntDir-v0",
}

# Of each family, in control steps: written out here, since making a family imports MuJoCo.
HORIZONS = {
    "grasp": 40,
    "terrain": 80,
    "terrain-planar": 100,
    "bandit": 10,
    "point": 100,
    "cheetah-vel": 200,
    "cheetah-dir": 200,
    "cheetah-vel-2017": 200,
    "cheetah-dir-2017": 200,
    "ant-vel": 200,
    "ant-dir": 200,
}

for _family, _id in GYMNASIUM_IDS.items():
    gymnasium.register(
        _id,
        entry_point="envs.gymnasium_env:TaskEnv",
        vector_entry_point="envs.vector:TaskVectorEnv",
        max_episode_steps=HORIZONS[_family],
        kwargs={"family": _family},
    )
