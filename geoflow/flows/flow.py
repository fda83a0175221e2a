"""Flow = space + prior + path + coupling: flow matching on a manifold. Read this file first.

Training draws noise x_0, data x_1 and a time t, walks to x_t = x_0 Exp(kappa(t) xi) with xi = Log(x_0^-1 x_1),
and regresses the network's body velocity on kappa'(t) xi. Sampling draws x_0 and integrates dx/dt = x v(x, t)^ to
t = 1. By default kappa(t) = t.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from geoflow.flows.batches import inner_axes, mean_inner, over_batch, over_inner, sample_shape
from geoflow.flows.couplings import Coupling, independent
from geoflow.flows.integrators import Solver, Steps, euler, integrate
from geoflow.flows.noise import Generators
from geoflow.flows.paths import Geodesic, Path
from geoflow.flows.priors import Prior, WrappedGaussian
from geoflow.flows.timed import told
from geoflow.flows.times import Times, uniform_times
from geoflow.manifolds import Manifold
from geoflow.manifolds.base import check_last_axis

Network = Callable[[Tensor, Tensor, Any], Tensor]
"""net(features (B, ..., feature_dim), t (B,), cond) -> tangents (B, ..., tangent_dim); it knows no geometry."""

TARGETS = ("velocity", "endpoint")


class Flow(nn.Module):
    """Flow matching on ``space`` (Lipman et al. 2023; on manifolds Chen and Lipman 2023).

    It has no parameters of its own: it is a module so that the prior's buffers move and save with a policy.

        space = gf.Product(gf.SE3(), gf.Euclidean(1))
        flow = gf.Flow(space)
        loss = flow.loss(net, actions, cond=cond).mean()
        chunk = flow.sample(net, cond=cond, horizon=16, steps=10)

    Args:
        space: The manifold; points lie in the last axis.
        prior: p_0; a unit wrapped Gaussian at the identity by default.
        path: The conditional path; the geodesic by default.
        coupling: Which noise goes with which data; independent by default.
        scale: Unit of the network's output, a number or shape (..., tangent_dim). The loss is taken in the
            same unit, so that every chunk step and every block of the tangent counts alike when the scale is
            the spread of the data.
        target: What the network predicts. "velocity": v = scale * net(...). "endpoint": where the path ends,
            x_1 = c Exp(scale * net(...)), and v is the path's way there, Log(x_t^-1 x_1) / (1 - t) for the
            default. A network then need not reproduce the noise, and the last Euler step of the default path
            lands on its prediction.
        center: c, shape (..., point_dim); the identity by default.
        times: Which times it trains at; uniform by default.

    Raises:
        ValueError: an unknown target.
    """

    scale: Tensor
    center: Tensor

    def __init__(
        self,
        space: Manifold,
        prior: Prior | None = None,
        path: Path | None = None,
        coupling: Coupling = independent,
        scale: Tensor | float = 1.0,
        target: str = "velocity",
        center: Tensor | None = None,
        times: Times = uniform_times,
    ) -> None:
        super().__init__()
        if target not in TARGETS:
            raise ValueError(f"target={target!r}; a network predicts one of {', '.join(TARGETS)}.")
        self.target = target
        self.space = space
        self.prior = prior if prior is not None else WrappedGaussian(space)
        self.path = path if path is not None else Geodesic()
        self.coupling = coupling
        self.times = times
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.get_default_dtype()).clone())
        self.register_buffer("center", space.identity() if center is None else center.clone())

    def velocity(self, net: Network, x: Tensor, t: Tensor, cond: Any = None) -> Tensor:
        """Body velocities (B, ..., tangent_dim) at points x (B, ..., point_dim) and times t (B,)."""
        predicted = self.scale * net(self.space.features(x), t, cond)
        if self.target == "velocity":
            return predicted
        return self.path.velocity_to(self.space, x, self._endpoint(predicted), over_inner(t, x))

    def _endpoint(self, predicted: Tensor) -> Tensor:
        return self.space.exp(self.center, predicted)

    def loss(
        self,
        net: Network,
        x_1: Tensor,
        cond: Any = None,
        *,
        x_0: Tensor | None = None,
        generator: Generators = None,
        counts: Tensor | None = None,
    ) -> Tensor:
        """The conditional flow matching loss of each batch element, shape (B,).

        | (v_theta(x_t, t, cond) - v_t) / scale |^2 in the metric of the space, mean over the inner axes
        (chunk steps); Chen and Lipman 2023, eq. (7). For the target "endpoint" the error is the body twist
        from the prediction to x_1: the same loss with weight (1 - t)^2 for the default path, on R^n exactly.

        Args:
            net: The network.
            x_1: Data, shape (B, ..., point_dim).
            cond: Handed to the network as it is.
            x_0: Where each path starts, paired with x_1 (reflow, streaming); drawn from the prior and paired by
                the coupling by default.
            generator: Source of randomness.
            counts: Which points count, bool of shape (B, ...); all by default. The others count as no error.

        Raises:
            ValueError: x_0 that are not as many points as x_1.
        """
        with torch.no_grad():
            drawn = x_0 is None and self.coupling is independent and self.prior.places_noise
            if drawn:
                x_0 = self.prior.noise(x_1.shape[:-1], generator)
            else:
                x_0, x_1 = self._pair(x_0, x_1, cond, generator)
            t = self.times(x_1.shape[0], generator, x_1)
        noise = generator if self.path.draws else None
        return self(net, x_0, x_1, t, cond, drawn=drawn, generator=noise, counts=counts)

    def forward(
        self,
        net: Network,
        x_0: Tensor,
        x_1: Tensor,
        t: Tensor,
        cond: Any = None,
        *,
        drawn: bool = False,
        generator: Generators = None,
        counts: Tensor | None = None,
    ) -> Tensor:
        """What `loss` does with what it has drawn: all of it that `compile` compiles; arguments as there.

        Args:
            net: The network.
            x_0: Where the paths start, or, where ``drawn``, the prior's noise from which it makes their starts.
            x_1: Where they end, shape (B, ..., point_dim).
            t: Times (B,).
            cond: Handed to the network.
            drawn: What x_0 is.
            generator: For a path that draws noise of its own.
            counts: Which points count.
        """
        with torch.no_grad():
            x_0 = self.prior.place(x_0).to(x_1.dtype) if drawn else x_0
            sample = self.path(self.space, x_0, x_1, over_inner(t, x_1), generator)
        predicted = net(self.space.features(sample.x_t), t, cond)
        if self.target == "velocity":
            error = predicted - sample.v_t / self.scale
        else:
            error = self.space.miss(self.center, self.scale * predicted, x_1) / self.scale
        return mean_inner(self.space.squared_norm(error), counts)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile `loss` with its network, all but what it draws (arguments as of torch.compile).

        Results agree with those of the eager loss to rounding, and draw the same noise.

        Raises:
            ValueError: a subclass with a loss of its own, or a path that draws noise between its ends.
        """
        if type(self).loss is not Flow.loss or self.path.draws:
            raise ValueError(
                f"the loss of a {type(self).__name__} with {self.path} draws noise as it goes, which is not "
                "compiled; train it without, or a Flow on a Geodesic or Diffusion path."
            )
        super().compile(*args, **kwargs)

    def _pair(
        self, x_0: Tensor | None, x_1: Tensor, cond: Any, generator: Generators
    ) -> tuple[Tensor, Tensor]:
        """x_0 and x_1 (B, ..., point_dim): as given, or noise from the prior paired by the coupling."""
        if x_0 is None:
            x_0 = self.prior.sample(x_1.shape[:-1], generator).to(x_1.dtype)
            return self.coupling(self.space, x_0, x_1, cond)
        if x_0.shape != x_1.shape:
            raise ValueError(
                f"expected a start x_0 for each x_1, shape {tuple(x_1.shape)}; got {tuple(x_0.shape)}. Leave x_0 "
                "out to draw it from the prior."
            )
        return x_0.to(x_1.dtype), x_1

    def sample(
        self,
        net: Network,
        cond: Any = None,
        *,
        horizon: int | Sequence[int] = (),
        batch: int | None = None,
        steps: Steps = 10,
        method: Solver = euler,
        x_0: Tensor | None = None,
        generator: Generators = None,
        path: bool = False,
    ) -> Tensor:
        """Draw points of shape (B, *horizon, point_dim).

        Args:
            net: The network.
            cond: Handed to the network; its first axis gives B where it is a tensor. One that is `Timed` is made
                ready for the times of the steps.
            horizon: Inner axes of a sample: 16 for a chunk of 16 steps, () for single points.
            batch: B, where ``cond`` does not give it.
            steps: Integration steps, or their grid of times from 0 to 1.
            method: The integrator.
            x_0: Where to start, shape (B, ..., point_dim), in place of a draw from the prior; it gives B and
                horizon.
            generator: Source of randomness, or one generator per batch element.
            path: Return all states, shape (steps + 1, B, *horizon, point_dim).

        Raises:
            ValueError: B is neither given nor in ``cond``, or not that of x_0; fewer than one step; an end point
                prediction is to be integrated by a method that asks for its velocity at t = 1, where it has
                arrived.
        """
        self.check_method(method)
        x_0 = self.start(cond, horizon=horizon, batch=batch, x_0=x_0, generator=generator)

        def velocity(x: Tensor, t: float) -> Tensor:
            return self.velocity(net, x, x.new_full((len(x),), t), told(cond, t))

        if method is euler:
            method = replace(euler, step=lambda _, __, x, t, dt: self.step(net, x, t, dt, told(cond, t)))
        return integrate(self.space, velocity, x_0, steps, method, path=path)

    def step(
        self, net: Network, x: Tensor, t: float | Tensor, dt: float | Tensor, cond: Any = None
    ) -> Tensor:
        """The Euler step from x (B, ..., point_dim) at time t to t + dt: x Exp(dt v(x, t)).

        Times are numbers, or tensors of no axis: compiled, one function then serves all of them.
        """
        times = over_batch(t, x)
        if self.target == "velocity":
            return self.space.exp(x, dt * self.velocity(net, x, times, cond))
        predicted = self.scale * net(self.space.features(x), times, cond)
        return self.path.step_to(self.space, x, self.center, predicted, t, dt)

    def check_method(self, method: Solver) -> None:
        """Raise ValueError where an integrator asks for what the target does not tell."""
        if self.target == "endpoint" and method.reaches_end:
            raise ValueError(
                f"{method.name} evaluates the velocity at t = 1, where an end point prediction has none; use euler, "
                "midpoint or rkmk3, or train with target='velocity'."
            )

    def start(
        self,
        cond: Any = None,
        *,
        horizon: int | Sequence[int] = (),
        batch: int | None = None,
        x_0: Tensor | None = None,
        generator: Generators = None,
    ) -> Tensor:
        """The x_0 (B, *horizon, point_dim) from which `sample` starts when given the same arguments."""
        if x_0 is None:
            return self.prior.sample(sample_shape(cond, batch, horizon), generator)
        inner = inner_axes(horizon)
        if batch is None and isinstance(cond, Tensor):
            batch = cond.shape[0]
        check_last_axis(x_0, self.space.point_dim, "starting points", self.space)
        if x_0.dim() < 2 or batch not in (None, len(x_0)) or inner not in ((), x_0.shape[1:-1]):
            count = "B" if batch is None else batch
            shape = ", ".join(map(str, (count, *(inner or ("...",)), self.space.point_dim)))
            raise ValueError(f"expected starting points x_0 of shape ({shape}); got {tuple(x_0.shape)}.")
        return x_0
