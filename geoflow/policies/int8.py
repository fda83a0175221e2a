"""w = s_b q: the weights of an exported network in 8 bits, a scale for each block of 32, a quarter of the memory.

At batch 1 a product takes as long as its weights take to be read. onnxruntime's MatMulNBits reads them in 8 bits and
brings its other factor to 8 bits too, block by block; sums are in float32 again. The last layer, which is small and
whose errors nothing mends, stays as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

BLOCK = 32
SMALLEST = 2**15
"""Matrices with fewer weights are left in float32: they cost nothing."""
_LEVEL = 4
"""MatMulNBits' accuracy_level for 8-bit products; at the others the weights are unpacked first, which takes longer
than float32 ones."""


def shrink(path: Path, outputs: int) -> int:
    """Give the network of an exported sampler 8-bit weights, in its file.

    Args:
        path: An ONNX file, as `export` writes it.
        outputs: Numbers the network gives: products with as many are left as they are.

    Returns:
        How many products were changed.
    """
    import onnx

    model = onnx.load(path)
    count = _shrink(model, outputs)
    draft = path.with_suffix(".draft")
    draft.write_bytes(model.SerializeToString())
    draft.replace(path)
    return count


def _shrink(model: Any, outputs: int) -> int:
    from onnx import helper, numpy_helper

    graph = model.graph
    constants = {x.name: x for x in graph.initializer}
    made: dict[str, str] = {}
    nodes, count = [], 0
    for node in graph.node:
        W = _weights(node, constants)
        if W is None or W.size < SMALLEST or len(W) == outputs or W.shape[1] % BLOCK:
            nodes.append(node)
            continue
        name = node.input[1]
        if name not in made:
            made[name] = f"{name}.int8"
            q, s = blocks(W)
            graph.initializer.append(numpy_helper.from_array(q, f"{name}.int8"))
            graph.initializer.append(numpy_helper.from_array(s, f"{name}.scale"))
        bias = node.input[2] if len(node.input) > 2 else ""
        constant = bias in constants
        product = node.output[0] if constant or not bias else f"{node.output[0]}.product"
        inputs = [node.input[0], f"{name}.int8", f"{name}.scale", *(["", "", bias] if constant else [])]
        shape = {"K": W.shape[1], "N": len(W), "bits": 8, "block_size": BLOCK, "accuracy_level": _LEVEL}
        nodes.append(helper.make_node("MatMulNBits", inputs, [product], domain="com.microsoft", **shape))
        if product != node.output[0]:  # a bias that is computed is added by a node of its own
            nodes.append(helper.make_node("Add", [product, bias], [node.output[0]]))
        count += 1
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [x for x in graph.initializer if x.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return count


def blocks(W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """q (N, K / 32, 32) of uint8 around 128 and s (N K / 32,), W (N, K) = s (q - 128) up to half a step of s."""
    parts = W.reshape(len(W), -1, BLOCK)
    s = np.abs(parts).max(-1, keepdims=True) / 127
    s[s == 0] = 1
    return (np.rint(parts / s) + 128).astype(np.uint8), s.astype(np.float32).reshape(-1)


def _weights(node: Any, constants: dict[str, Any]) -> np.ndarray | None:
    """The constant factor (N, K) of a product x W^T, if it is one."""
    from onnx import helper, numpy_helper

    if node.op_type != "Gemm" or node.input[1] not in constants:
        return None
    options = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if options.get("transA") or options.get("alpha", 1) != 1 or options.get("beta", 1) != 1:
        return None
    W = numpy_helper.to_array(constants[node.input[1]])
    return W if options.get("transB") else np.ascontiguousarray(W.T)
