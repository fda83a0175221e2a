"""Discrete flow matching: tokens jump from noise x_0 to data x_1, p_t(x | x_0, x_1) = (1 - kappa) d_x0 + kappa d_x1.

Gat et al. 2024 ("Discrete Flow Matching") and Campbell et al. 2024: the network predicts which data token x_1 a
noisy x_t belongs to, and sampling is a continuous-time Markov chain with the rates

    u(x <- x_t) = (1 + c) kappa' / (1 - kappa) p(x_1 = x | x_t) + c kappa' / kappa p_0(x)        for x != x_t,

where c >= 0 turns up a part without divergence: it forgets and predicts again, and moves no marginal. Given x_1
these rates integrate over a step of any length, so a step jumps with its exact probabilities, the last one lands on
data, and no probability is ever negative or above 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from geoflow.flows.batches import mean_inner, sample_shape
from geoflow.flows.integrators.grids import Steps, intervals
from geoflow.flows.noise import Generators, rand
from geoflow.flows.schedules import Linear, Schedule, check_schedule
from geoflow.flows.times import Times, uniform_times

TokenNetwork = Callable[[Tensor, Tensor, Any], Tensor]
"""net(tokens (B, ...), t (B,), cond) -> logits of x_1 (B, ..., classes)."""

SOURCES = ("mask", "uniform")
LOSSES = ("cross_entropy", "kl")


class DiscreteFlow(nn.Module):
    """Flow matching of tokens 0 ... classes - 1, shape (B, ...).

    It has no parameters of its own: it is a module so that it moves with a policy.

        modes = gf.flows.DiscreteFlow(2)
        loss = modes.loss(net, tokens, cond=cond).mean()
        tokens = modes.sample(net, cond=cond, horizon=16, steps=10)

    What a token says of itself is not left to the network: p(x_1 | x_t) = softmax(logits + log p(x_t | x_1)),
    each token by its own. Where the source is the mask, a token that is no mask is therefore kept; where it is
    uniform, tokens are believed the more the later it is. The logits are those of x_1 given everything else.

    Args:
        classes: K, how many tokens there are.
        source: p_0. "mask": a further token K, which the network sees and never predicts. "uniform": any of the K.
        schedule: kappa(t), with its derivative.
        objective: "cross_entropy", or "kl": the generalised Kullback-Leibler divergence of the rates
            (Shaul et al. 2024), whose mean over uniform times, summed over tokens, is no less than
            -log p(x_1), and equals it for a single token from the mask if the network does not look at t.
        times: Which times it trains at; uniform by default.

    Raises:
        ValueError: fewer than 2 classes; an unknown source or objective; a schedule that does not run from 0 to
            1, or runs back.
    """

    source_probabilities: Tensor

    def __init__(
        self,
        classes: int,
        source: str = "mask",
        schedule: Schedule | None = None,
        objective: str = "cross_entropy",
        times: Times = uniform_times,
    ) -> None:
        super().__init__()
        if classes < 2:
            raise ValueError(f"classes={classes}; a choice is between at least 2 tokens.")
        if source not in SOURCES:
            raise ValueError(f"source={source!r}; tokens start from one of {', '.join(SOURCES)}.")
        if objective not in LOSSES:
            raise ValueError(f"objective={objective!r}; it is one of {', '.join(LOSSES)}.")
        self.classes, self.source, self.objective, self.times = classes, source, objective, times
        self.schedule = schedule if schedule is not None else Linear()
        check_schedule(self.schedule)
        if bool((self.schedule(torch.linspace(0, 1, 101).double())[1] < 0).any()):
            raise ValueError(
                f"the schedule {self.schedule} runs back (kappa' < 0); tokens only jump from noise to data."
            )
        start = (
            torch.full((classes,), 1 / classes) if source == "uniform" else torch.eye(classes + 1)[classes]
        )
        self.register_buffer("source_probabilities", start, persistent=False)

    @property
    def states(self) -> int:
        """How many tokens the network sees: one more than ``classes`` where the source is the mask, which is last."""
        return len(self.source_probabilities)

    # Training.

    def loss(
        self, net: TokenNetwork, x_1: Tensor, cond: Any = None, *, generator: Generators = None
    ) -> Tensor:
        """The objective, mean over the tokens of each batch element, shape (B,).

        Args:
            net: The network.
            x_1: Data tokens, integers of shape (B, ...).
            cond: Handed to the network as it is.
            generator: Source of randomness.

        Raises:
            TypeError, ValueError: x_1 are no tokens below ``classes``.
        """
        t = self.times(len(x_1), generator, self.source_probabilities)
        x_t = self.corrupt(x_1, t, generator)
        return self.loss_of(net(x_t, t, cond), x_1, x_t, t)

    def corrupt(self, x_1: Tensor, t: Tensor, generator: Generators = None) -> Tensor:
        """x_t (B, ...): each token of x_1 with probability kappa(t), else one from the source; t (B,)."""
        self._check(x_1)
        arrived = rand(x_1.shape, generator, like=self.source_probabilities) < _over_inner(
            self.schedule(t)[0], x_1
        )
        return torch.where(arrived, x_1, self.start(x_1.shape, generator))

    def loss_of(self, logits: Tensor, x_1: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The objective (B,) of logits (B, ..., K) that the network gave at x_t (B, ...), t (B,).

        The divergence of the true rates r d_x1 from the predicted r p, r = kappa' / (1 - kappa), is
        r (p(others than x_t) - [x_t != x_1] (1 + log p(x_1))); Shaul et al. 2024, as in `flow_matching`.
        """
        kappa, speed = (_over_inner(a, x_1) for a in self.schedule(t.to(logits.dtype)))
        log_p = self.posterior(logits, x_t, kappa)
        log_p_x1 = log_p.gather(-1, x_1.unsqueeze(-1)).squeeze(-1)
        if self.objective == "cross_entropy":
            return -mean_inner(log_p_x1)
        # Summed over the others, not 1 - p(x_t): near t = 1 it is small and divided by 1 - kappa.
        others = torch.arange(self.classes, device=x_t.device) != x_t.unsqueeze(-1)
        away = (log_p.exp() * others).sum(-1)
        rate = speed / (1 - _inside(kappa))
        return mean_inner(rate * torch.where(x_t == x_1, away, away - 1 - log_p_x1))

    # What the network's logits mean.

    def posterior(self, logits: Tensor, x_t: Tensor, kappa: Tensor | float) -> Tensor:
        """log p(x_1 | x_t) (..., K): logits (..., K) and what x_t (...) says of itself at kappa (...).

        Raises:
            ValueError: logits that are not K for each token.
        """
        if logits.shape != (*x_t.shape, self.classes):
            raise ValueError(
                f"expected logits of {self.classes} classes for each token, shape "
                f"{(*x_t.shape, self.classes)}; got {tuple(logits.shape)}."
                + (" The mask is no class." if logits.shape[-1:] == (self.states,) else "")
            )
        # p(x_t | x_1) = (1 - kappa) p_0(x_t) + kappa [x_t = x_1]
        same = torch.arange(self.classes, device=x_t.device) == x_t.unsqueeze(-1)
        inside = _inside(torch.as_tensor(kappa, dtype=logits.dtype, device=logits.device)).unsqueeze(-1)
        by_chance = self.source_probabilities.to(logits)[x_t].unsqueeze(-1)
        # Logits may exclude tokens with -inf, but not all that x_t leaves.
        logits = logits.clamp(min=torch.finfo(logits.dtype).min / 2)
        return torch.log_softmax(logits + ((1 - inside) * by_chance + inside * same).log(), dim=-1)

    # Sampling.

    @torch.no_grad()
    def sample(
        self,
        net: TokenNetwork,
        cond: Any = None,
        *,
        horizon: int | Sequence[int] = (),
        batch: int | None = None,
        steps: Steps = 10,
        temperature: float = 1.0,
        corrector: float = 0.0,
        generator: Generators = None,
        path: bool = False,
    ) -> Tensor:
        """Draw tokens of shape (B, *horizon), one network evaluation a step.

        Tokens are drawn independently within a step: a single token is right with any number of steps, several
        that depend on each other need more of them.

        Args:
            net: The network.
            cond: Handed to the network; its first axis gives B where it is a tensor.
            horizon: Inner axes of a sample.
            batch: B, where ``cond`` does not give it.
            steps: Equal steps, or their grid of times from 0 to 1.
            temperature: Divides the logits; below 1 the likelier tokens are preferred.
            corrector: c, how much of the part without divergence. Wrong tokens can then be mended, and right
                ones spoilt: with few steps, dependent tokens agree less for it.
            generator: Source of randomness, or one generator per batch element.
            path: Return all states, shape (steps + 1, B, *horizon).

        Raises:
            ValueError: B is not given; temperature <= 0; corrector < 0; fewer than one step.
        """
        x = self.start(sample_shape(cond, batch, horizon), generator)
        states = [x]
        for t, s in grid(steps):
            logits = net(x, self.source_probabilities.new_full((len(x),), t), cond)
            x = self.step(logits, x, t, s, temperature=temperature, corrector=corrector, generator=generator)
            states.append(x)
        return torch.stack(states) if path else x

    def start(self, shape: Sequence[int], generator: Generators = None) -> Tensor:
        """x_0 ~ p_0, tokens of a shape (B, ...)."""
        if self.source == "mask":
            return torch.full(
                tuple(shape), self.classes, dtype=torch.long, device=self.source_probabilities.device
            )
        return self._draw(self.source_probabilities.expand(*shape, -1), generator)

    def step(
        self,
        logits: Tensor,
        x_t: Tensor,
        t: float,
        s: float,
        *,
        temperature: float = 1.0,
        corrector: float = 0.0,
        generator: Generators = None,
    ) -> Tensor:
        """x_s from x_t (B, ...), both tokens, by the logits (B, ..., K) that the network gives at x_t."""
        if not temperature > 0:
            raise ValueError(
                f"temperature={temperature}; it divides logits, so it is above 0 (0.1 is greedy)."
            )
        kappa = self._kappa(t)
        p_1 = self.posterior(logits / temperature, x_t, kappa).exp()
        return self._draw(self.transition(p_1, x_t, t, s, corrector=corrector), generator)

    def transition(self, p_1: Tensor, x_t: Tensor, t: float, s: float, *, corrector: float = 0.0) -> Tensor:
        """p(x_s | x_t) (..., states) from p(x_1 | x_t) (..., K), for times t < s.

        Given x_1, a token jumps to it at the rate (1 + c) kappa' / (1 - kappa) and back to the source at
        c kappa' / kappa. It has stayed with probability
        e = ((1 - kappa_s) / (1 - kappa_t))^(1 + c) (kappa_t / kappa_s)^c; its last jump was to x_1 with
        kappa_s - kappa_t e, to the source with the rest.

        Raises:
            ValueError: corrector < 0.
        """
        if not corrector >= 0:
            raise ValueError(f"corrector={corrector}; it is a rate >= 0, and 0 only jumps towards data.")
        a, b = self._kappa(t), self._kappa(s)
        # Where kappa has not begun or has arrived nothing is left to happen, and the ratios are 0 / 0.
        stay = 1.0 if b == 0 else 0.0
        if b > 0 and a < 1:
            stay = ((1 - b) / (1 - a)) ** (1 + corrector) * (a / b) ** corrector
        jump = b - a * stay
        stayed = torch.nn.functional.one_hot(x_t, self.states).to(p_1)
        arrived = torch.nn.functional.pad(p_1, (0, self.states - self.classes))
        back = max(1 - stay - jump, 0.0)
        return stay * stayed + jump * arrived + back * self.source_probabilities.to(p_1)

    def _kappa(self, t: float) -> float:
        kappa = float(self.schedule(torch.tensor(t, dtype=torch.float64))[0])
        # Rounding must not leave a mask behind at the end.
        return min(max(kappa, 0.0), 1.0) if 0 < t < 1 else float(t >= 1)

    def _draw(self, p: Tensor, generator: Generators) -> Tensor:
        """Tokens (...) with probabilities p (..., n), which need not be normalised; never one of probability 0."""
        total = p.cumsum(-1)
        u = (
            rand(p.shape[:-1], generator, like=self.source_probabilities).to(p.dtype).unsqueeze(-1)
            * total[..., -1:]
        )
        return (u >= total).sum(-1)

    def _check(self, x_1: Tensor) -> None:
        if x_1.is_floating_point() or x_1.dtype == torch.bool:
            raise TypeError(f"expected tokens as integers; got {x_1.dtype}. Convert with x.long().")
        if not torch.compiler.is_compiling() and bool(((x_1 < 0) | (x_1 >= self.classes)).any()):
            raise ValueError(
                f"expected tokens from 0 to {self.classes - 1}; got {int(x_1.min())} to {int(x_1.max())}."
            )


def grid(steps: Steps) -> list[tuple[float, float]]:
    """(t, s) of every step, where it begins and where it ends; the last ends at 1."""
    times = [t for t, _ in intervals(steps)] + [1.0]
    return list(pairwise(times))


def _inside(kappa: Tensor) -> Tensor:
    """kappa, kept from 0 and 1 by rounding's width, so that logarithms and ratios at the ends stay finite."""
    eps = torch.finfo(kappa.dtype).eps
    return kappa.clamp(eps, 1 - eps)


def _over_inner(value: Tensor, tokens: Tensor) -> Tensor:
    """Values (B,) in a shape that broadcasts against tokens (B, ...)."""
    return value.reshape(-1, *(1,) * (tokens.dim() - 1))
