"""A blind trot: from a velocity command to the setpoints of twelve leg joints.

Diagonal legs move together. In stance a foot moves backwards relative to the body at the commanded velocity; in swing
it returns along a half sine. Legs are ordered front left, front right, rear left, rear right, and the joints of a leg
abduction, thigh, knee, as in `assets/quadruped.xml`.

Two reflexes keep it upright where an open-loop trot falls: feet stay below the hips when the body tilts, and land
further out in the direction in which the body moves too fast (Raibert, Legged Robots That Balance, 1986).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

HIP = np.array([[0.18, 0.06], [0.18, -0.06], [-0.18, 0.06], [-0.18, -0.06]])  # m, abduction joint in the torso's frame
SIDE = np.array([1.0, -1.0, 1.0, -1.0])  # left legs point to +y
ABDUCTION_LINK, THIGH_LINK, CALF_LINK = 0.07, 0.20, 0.20  # m
PHASE_OFFSET = np.array([0.0, 0.5, 0.5, 0.0])  # of a cycle


@dataclass(frozen=True)
class Trot:
    """The trot that an action of zero asks for, and how far actions of one change it.

    Actions are forward speed, sideways speed (to the left), turning rate (to the left), lift of the feet and step rate.
    """

    neutral: tuple[float, ...] = (0.60, 0.0, 0.0, 0.08, 2.5)  # m/s, m/s, rad/s, m, Hz
    reach: tuple[float, ...] = (0.70, 0.5, 1.5, 0.08, 1.0)  # the same units: from -0.1 m/s to 1.3 m/s forward
    height: float = 0.27  # m, of the hips above the feet
    stance_share: float = 0.55  # of a cycle
    smoothing: float = 0.12  # s, time constant with which the command follows the action
    level: float = 0.3  # how far the feet move to stay below the hips when the body tilts; 1 would be all the way
    catch: float = 0.12  # s, how far ahead a foot lands for each m/s that the body is faster than commanded

    def command(self, action: np.ndarray) -> np.ndarray:
        """[N, 5] forward m/s, sideways m/s, turn rad/s, lift m, rate Hz for actions [N, 5] in [-1, 1]."""
        return np.asarray(self.neutral) + np.asarray(self.reach) * action

    def action(self, command: np.ndarray) -> np.ndarray:
        """The actions in [-1, 1] that come nearest to a command: the inverse of `command`."""
        return np.clip((command - np.asarray(self.neutral)) / np.asarray(self.reach), -1.0, 1.0)

    def feet(self, command: np.ndarray, phase: np.ndarray, up: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        """[N, 4, 3] feet relative to their abduction joints (m) for command [N, 5] at phase [N] of a cycle.

        up: [N, 2] forward and sideways parts of the world's vertical in the body's frame; velocity: [N, 2] m/s of the
        body, forward and sideways. They feed the two reflexes.
        """
        forward, sideways, turn, lift, rate = command.T[:, :, None]
        cycle = (phase[:, None] + PHASE_OFFSET) % 1.0
        swing_share = 1.0 - self.stance_share
        swing = np.minimum(cycle / swing_share, 1.0)
        stance = np.maximum(cycle - swing_share, 0.0) / self.stance_share
        # From -1/2 to 1/2 of a stride and back; the swing's ends match the stance's velocity less abruptly than a line.
        along = np.where(cycle < swing_share, -0.5 * np.cos(np.pi * swing), 0.5 - stance)
        foot_x, foot_y = HIP[:, 0], HIP[:, 1] + SIDE * ABDUCTION_LINK
        stance_seconds = self.stance_share / rate
        stride_x = (forward - turn * foot_y) * stance_seconds
        stride_y = (sideways + turn * foot_x) * stance_seconds
        catch = np.clip(self.catch * (velocity - command[:, :2]), -0.08, 0.08)
        landing = np.where(cycle < swing_share, swing, 1.0 - stance)
        shift = np.clip(-self.level * self.height * up, -0.1, 0.1)[:, None, :] + catch[:, None, :] * landing[:, :, None]
        feet = np.empty((len(phase), 4, 3))
        feet[..., 0] = stride_x * along + shift[..., 0]
        feet[..., 1] = SIDE * ABDUCTION_LINK + stride_y * along + shift[..., 1]
        feet[..., 2] = lift * np.sin(np.pi * swing) - self.height
        return feet

    def joints(self, command: np.ndarray, phase: np.ndarray, up: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        """[N, 12] joint setpoints in radians; see `feet`."""
        return leg_angles(self.feet(command, phase, up, velocity)).reshape(len(phase), 12)


def leg_angles(feet: np.ndarray) -> np.ndarray:
    """Inverse kinematics: [..., 4, 3] feet relative to their abduction joints (m) -> [..., 4, 3] angles (rad).

    Feet out of reach are approached along the same direction.
    """
    x, y, z = feet[..., 0], feet[..., 1], feet[..., 2]
    depth = np.sqrt(np.maximum(y * y + z * z - ABDUCTION_LINK**2, 1e-4))
    abduction = np.arctan2(y, -z) - np.arctan2(SIDE * ABDUCTION_LINK, depth)
    bend = (x * x + depth * depth - THIGH_LINK**2 - CALF_LINK**2) / (2.0 * THIGH_LINK * CALF_LINK)
    bend = np.clip(bend, -0.8, 0.95)
    knee = -np.arccos(bend)
    thigh = np.arctan2(-x, depth) - np.arctan2(CALF_LINK * np.sin(knee), THIGH_LINK + CALF_LINK * bend)
    return np.stack([abduction, thigh, knee], axis=-1)
