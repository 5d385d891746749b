"""The agents by name: the config that each takes and how one is made from it."""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import TYPE_CHECKING, Any

from envs.errors import UserError

if TYPE_CHECKING:
    from envs.task import TaskFamily

AGENTS = {
    "maml": "agents.maml:Maml",
    "rl2": "agents.rl2:RL2",
    "ppo": "agents.ppo:ScratchPPO",
    "ppo-robust": "agents.ppo:RobustPPO",
    "ppo-finetuned": "agents.ppo:FinetunedPPO",
    "ppo-oracle": "agents.ppo:OraclePPO",
    "random": "agents.random:RandomAgent",
}
TRAINABLE = ("maml", "rl2", "ppo-robust", "ppo-oracle")


def agent_class(name: str) -> Any:
    """The class of that name; its `config_type` is the frozen dataclass of its settings. Raises `UserError`."""
    if name not in AGENTS:
        close = difflib.get_close_matches(name, AGENTS, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(AGENTS)}"
        raise UserError(f"no agent is called '{name}': {hint}")
    module, _, attribute = AGENTS[name].partition(":")
    return getattr(import_module(module), attribute)


def make_agent(name: str, config: Any, family: TaskFamily[Any], seed: int) -> Any:
    """An untrained agent for tasks of a family."""
    import torch  # here, so that the names above are known in no time

    from agents.agent import Sizes

    return agent_class(name)(config, Sizes.of(family), torch.Generator().manual_seed(seed))
