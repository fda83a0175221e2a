"""Encoders: each kind of observation to tokens, what they do not depend on, and how they refuse."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from geoflow.policies.encoders import ENCODERS, PICTURES, ImageEncoder, PointEncoder, TextEncoder, tokenise
from geoflow.policies.encoders.blobs import moments
from geoflow.policies.encoders.images import spatial_softmax
from geoflow.policies.encoders.points import MOST, farthest_points

KINDS = {**{kind: encoder for kind, encoder in ENCODERS.items() if kind != "image"}, **PICTURES}
SHAPES = {
    "vector": (3,),
    "keypoints": (24, 28, 3),
    "blobs": (24, 28, 3),
    "points": (40, 3),
    "text": (12,),
    "embedding": (5, 6),
}


def observations(kind, batch=3, steps=2):
    generator = torch.Generator().manual_seed(0)
    shape = (batch, steps, *SHAPES[kind])
    if kind in PICTURES:
        return torch.randint(256, shape, generator=generator, dtype=torch.uint8)
    if kind == "text":
        return tokenise("pick it", 12).expand(shape)
    return torch.randn(shape, generator=generator)


@pytest.mark.parametrize("kind", KINDS)
def test_contract(kind):
    """(B, To, *shape) -> tokens (B, steps, tokens, width) and which are there; every parameter is at work."""
    torch.manual_seed(0)
    encoder = KINDS[kind](SHAPES[kind], 2, 32)
    tokens, there = encoder(observations(kind), torch.Generator().manual_seed(0))
    assert tokens.shape == (3, encoder.steps, encoder.tokens, 32)
    assert there.shape == tokens.shape[:-1]
    assert there.dtype == torch.bool
    (tokens * torch.randn_like(tokens)).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert (parameter.grad != 0).any(), name


@pytest.mark.parametrize("kind", KINDS)
def test_elements_of_a_batch_do_not_mix(kind):
    torch.manual_seed(0)
    encoder, x = KINDS[kind](SHAPES[kind], 2, 32).eval(), observations(kind)
    together, alone = encoder(x)[0], torch.cat([encoder(row[None])[0] for row in x])
    torch.testing.assert_close(together, alone)


def test_a_cloud_has_no_order():
    torch.manual_seed(0)
    encoder = PointEncoder((MOST + 50, 3), 1, 16)
    cloud = torch.randn(2, 1, MOST + 50, 3)
    shuffled = cloud[:, :, torch.randperm(MOST + 50)]
    torch.testing.assert_close(encoder(shuffled)[0], encoder(cloud)[0])


def test_farthest_points_are_far_apart():
    """Four corners of a square with a crowd in its middle: the corners first."""
    corners = torch.tensor([[1.0, 1, 0], [1, -1, 0], [-1, 1, 0], [-1, -1, 0]])
    crowd = 0.01 * torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    index = farthest_points(torch.cat([crowd, corners])[None], 4)
    assert sorted(index[0].tolist()) == [100, 101, 102, 103]
    # Each is the farthest from those before: never farther than the last.
    points = torch.randn(1, 60, 3, generator=torch.Generator().manual_seed(1))
    order = points[0, farthest_points(points, 20)[0]]
    gaps = [torch.cdist(order[i : i + 1], order[:i]).min() for i in range(2, 20)]
    assert all(a >= b for a, b in pairwise(gaps))


def test_spatial_softmax_finds_the_bright_pixel():
    x = torch.zeros(1, 2, 5, 9)
    x[0, 0, 1, 8] = x[0, 1, 4, 2] = 1e4
    torch.testing.assert_close(spatial_softmax(x), torch.tensor([[1.0, -0.5, -0.5, 1.0]]))


def test_moments_are_those_of_the_distribution():
    """Against weighted means and covariances of NumPy."""
    maps = torch.randn(2, 3, 5, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows, columns = torch.linspace(-1, 1, 5).double(), torch.linspace(-1, 1, 9).double()
    found = moments(maps).unflatten(-1, (5, 3))
    places = torch.stack(torch.meshgrid(columns, rows, indexing="xy")).flatten(1).numpy()
    for n in range(2):
        for k in range(3):
            weights = maps[n, k].exp().flatten().numpy()
            mean, cov = np.average(places, axis=1, weights=weights), np.cov(places, aweights=weights, ddof=0)
            expected = [*mean, 4 * cov[0, 0], 4 * cov[1, 1], 4 * cov[0, 1]]
            np.testing.assert_allclose(found[n, :, k].numpy(), expected, atol=1e-12)


def test_crops_are_random_in_training_and_central_otherwise():
    encoder = ImageEncoder((42, 84, 3), 1, 8)
    row, column = torch.arange(42.0)[:, None].expand(42, 84), torch.arange(84.0).expand(42, 84)
    x = torch.stack([row, column, row * column]).expand(50, 3, 42, 84)
    crops = encoder.crop(x, torch.Generator().manual_seed(0))
    assert crops.shape == (50, 3, 38, 76)
    corners = {tuple(corner) for corner in crops[:, :2, 0, 0].int().tolist()}
    assert len(corners) > 20
    assert all(0 <= top <= 4 and 0 <= left <= 8 for top, left in corners)
    for crop in crops[:5]:  # cut out, not warped
        top, left = crop[:2, 0, 0].int().tolist()
        torch.testing.assert_close(crop, x[0, :, top : top + 38, left : left + 76])
    torch.testing.assert_close(crops, encoder.crop(x, torch.Generator().manual_seed(0)))
    torch.testing.assert_close(encoder.eval().crop(x, None), x[:, :, 2:40, 4:80])


def test_what_comes_after_a_text_changes_nothing():
    """A text in a longer field gives the same tokens, and the rest is marked as not there."""
    torch.manual_seed(0)
    encoder = TextEncoder((12,), 1, 32)
    longer = TextEncoder((20,), 1, 32)
    state = {**encoder.state_dict(), "positions": torch.cat([encoder.positions, torch.randn(8, 32)])}
    longer.load_state_dict(state)
    tokens, there = encoder(tokenise("push it up", 12)[None, None])
    more, still = longer(tokenise("push it up", 20)[None, None])
    assert there.sum() == still.sum() == 4  # a token a word, and the one before
    torch.testing.assert_close(more[still], tokens[there])
    other, _ = encoder(tokenise("pull it up", 12)[None, None])
    assert (other[there] - tokens[there]).abs().max() > 1e-2
    empty, there = encoder(tokenise("", 12)[None, None])
    assert there.sum() == 1
    assert empty.isfinite().all()


def test_a_text_is_read_in_words():
    """As many tokens as words, however they are spaced and whatever else is in the batch; no word is lost."""
    torch.manual_seed(0)
    encoder = TextEncoder((60,), 1, 32)
    texts = ["go", "  go  left ", " ".join("abcdefghijklmnopqrs"), "go"]
    tokens, there = encoder(torch.stack([tokenise(text, 60) for text in texts])[:, None])
    assert there[:, 0].sum(1).tolist() == [2, 3, 17, 2]
    alone, _ = encoder(tokenise("go", 60)[None, None])
    torch.testing.assert_close(tokens[0], alone[0])
    torch.testing.assert_close(tokens[0], tokens[3], rtol=0, atol=0)
    other, _ = encoder(tokenise(" ".join("abcdefghijklmnopqrt"), 60)[None, None])
    assert (other[0, 0, 16] - tokens[2, 0, 16]).abs().max() > 1e-3


def test_texts_are_bytes():
    assert bytes(tokenise("grün", 8).tolist()) == "grün".encode() + b"\0\0\0"
    with pytest.raises(ValueError, match="has 9 bytes; this policy reads 8 at most"):
        tokenise("nine char", 8)
    with pytest.raises(ValueError, match="zero byte"):
        tokenise("a\0b", 8)


@pytest.mark.parametrize(
    ("kind", "shape", "words"),
    [
        ("image", (7,), r"expected \(height, width, channels\)"),
        ("image", (8, 84, 3), "at least 16 pixels"),
        ("points", (100, 2), r"expected \(points, 3 \+ c\)"),
        ("text", (2, 3), r"expected \(length,\)"),
        ("embedding", (1, 2, 3), r"expected \(d,\), or \(n, d\)"),
        ("vector", (2, 3), r"expected \(d,\)"),
    ],
)
def test_other_shapes_are_refused(kind, shape, words):
    with pytest.raises(ValueError, match=words):
        ENCODERS[kind](shape, 1, 16)
