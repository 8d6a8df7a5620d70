"""The same weights in other projects' key names must give the same outputs.

The mappings here are written from those projects' side, independently of the converters, and checked against
transformers' convert_dinov2_with_registers_to_hf.py and convert_dinov3_vit_to_hf.py, timm's _convert_dinov2 in
vision_transformer.py and checkpoint_filter_fn in eva.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_backbones import TINY, make_backbone, random_images, random_state
from torch import Tensor

from slamfeat.backbones import load_backbone

State = dict[str, Tensor]


def _hf2(state: State) -> State:
    out = {
        "embeddings.cls_token": state["cls_token"],
        "embeddings.mask_token": state["mask_token"],
        "embeddings.position_embeddings": state["pos_embed"],
        "embeddings.patch_embeddings.projection.weight": state["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.projection.bias": state["patch_embed.proj.bias"],
        "layernorm.weight": state["norm.weight"],
        "layernorm.bias": state["norm.bias"],
    }
    if "register_tokens" in state:
        out["embeddings.register_tokens"] = state["register_tokens"]
    for i in range(3):
        old, new = f"blocks.{i}.", f"encoder.layer.{i}."
        for kind in ("weight", "bias"):
            for part, value in zip(("query", "key", "value"), state[f"{old}attn.qkv.{kind}"].chunk(3), strict=True):
                out[f"{new}attention.attention.{part}.{kind}"] = value
            out[f"{new}attention.output.dense.{kind}"] = state[f"{old}attn.proj.{kind}"]
            for norm in ("norm1", "norm2"):
                out[f"{new}{norm}.{kind}"] = state[f"{old}{norm}.{kind}"]
            names = {"fc1": "fc1", "fc2": "fc2", "w12": "weights_in", "w3": "weights_out"}
            for theirs, ours in ((names[k], k) for k in names if f"{old}mlp.{k}.{kind}" in state):
                out[f"{new}mlp.{theirs}.{kind}"] = state[f"{old}mlp.{ours}.{kind}"]
        out[f"{new}layer_scale1.lambda1"] = state[f"{old}ls1.gamma"]
        out[f"{new}layer_scale2.lambda1"] = state[f"{old}ls2.gamma"]
    return out


def _hf3(state: State, stack: str = "layer.") -> State:
    gated = "blocks.0.mlp.w1.weight" in state
    mlp = {"w1": "gate_proj", "w2": "up_proj", "w3": "down_proj"} if gated else {"fc1": "up_proj", "fc2": "down_proj"}
    out = {
        "embeddings.cls_token": state["cls_token"],
        "embeddings.mask_token": state["mask_token"][None],
        "embeddings.register_tokens": state["storage_tokens"],
        "embeddings.patch_embeddings.weight": state["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.bias": state["patch_embed.proj.bias"],
        "norm.weight": state["norm.weight"],
        "norm.bias": state["norm.bias"],
    }
    for i in range(3):
        old, new = f"blocks.{i}.", f"{stack}{i}."
        for kind in ("weight", "bias"):
            for part, value in zip("qkv", state[f"{old}attn.qkv.{kind}"].chunk(3), strict=True):
                if (part, kind) != ("k", "bias"):
                    out[f"{new}attention.{part}_proj.{kind}"] = value
            out[f"{new}attention.o_proj.{kind}"] = state[f"{old}attn.proj.{kind}"]
            for norm in ("norm1", "norm2"):
                out[f"{new}{norm}.{kind}"] = state[f"{old}{norm}.{kind}"]
            for ours, theirs in mlp.items():
                out[f"{new}mlp.{theirs}.{kind}"] = state[f"{old}mlp.{ours}.{kind}"]
        out[f"{new}layer_scale1.lambda1"] = state[f"{old}ls1.gamma"]
        out[f"{new}layer_scale2.lambda1"] = state[f"{old}ls2.gamma"]
    return out


def _timm2(state: State) -> State:
    out = {key: value for key, value in state.items() if key != "mask_token"}
    if "register_tokens" in out:
        out["reg_token"] = out.pop("register_tokens")
        out["cls_token"] = out["cls_token"] + out["pos_embed"][:, 0]
        out["pos_embed"] = out["pos_embed"][:, 1:]
    return {key.replace(".w12.", ".fc1.").replace(".w3.", ".fc2."): value for key, value in out.items()}


def _timm3(state: State) -> State:
    out: State = {}
    for key, value in state.items():
        if key.endswith("qkv.bias"):
            out[key.replace("qkv.bias", "q_bias")], _, out[key.replace("qkv.bias", "v_bias")] = value.chunk(3)
        elif not key.endswith(("bias_mask", "periods", "mask_token")):
            key = key.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2")
            key = key.replace("storage_tokens", "reg_token")
            key = key.replace("mlp.w1", "mlp.fc1_g").replace("mlp.w2", "mlp.fc1_x").replace("mlp.w3", "mlp.fc2")
            out[key] = value
    return out


def _timm3_without_bias(state: State) -> State:
    return {key: value for key, value in _timm3(state).items() if not key.endswith(("q_bias", "v_bias"))}


def _prefixed(prefix: str) -> Callable[[State], State]:
    head = {"classifier.weight": torch.zeros(2, 3)}
    return lambda state: {prefix + key: value for key, value in state.items()} | head


def _chunked(state: State) -> State:
    """How FSDP training stores blocks: blocks.<chunk>.<block>."""
    return {key.replace("blocks.", "blocks.0.") if "blocks.2" not in key else key.replace("blocks.", "blocks.1."): value
            for key, value in state.items()}  # fmt: skip


def _assert_same_outputs(name: str, path: Path, state: State) -> None:
    reference = TINY[name].build()
    reference.load_state_dict(state)
    images = random_images(reference.patch_size)
    with torch.no_grad():
        expected, got = reference.eval()(images), load_backbone(name, path)(images)
    for part in ("patch", "cls", "registers"):
        assert torch.allclose(getattr(got, part), getattr(expected, part), atol=1e-6), part


LAYOUTS = {
    "hf": (_hf2, ("tiny2", "tiny2-reg4", "tiny2-swiglu")),
    "hf-classifier": (lambda s: _prefixed("dinov2.")(_hf2(s)), ("tiny2",)),
    "timm": (_timm2, ("tiny2", "tiny2-reg4", "tiny2-swiglu")),
    "teacher": (lambda s: _prefixed("teacher.backbone.")(s) | _prefixed("student.backbone.")(s), ("tiny2", "tiny3")),
    "chunked": (_chunked, ("tiny2", "tiny3")),
    "hf3": (_hf3, ("tiny3", "tiny3-plus")),
    "hf3-model": (lambda s: _hf3(s, "model.layer."), ("tiny3",)),
    "timm3": (_timm3, ("tiny3", "tiny3-plus")),
}


CASES = [(layout, name) for layout, (_, names) in LAYOUTS.items() for name in names]


@pytest.mark.parametrize(("layout", "name"), CASES)
def test_layout(layout: str, name: str, tmp_path: Path) -> None:
    state = random_state(name)
    path = tmp_path / "model.safetensors"
    save_file({key: value.clone().contiguous() for key, value in LAYOUTS[layout][0](state).items()}, path)
    _assert_same_outputs(name, path, state)


def test_hf_folder(tmp_path: Path) -> None:
    state = random_state("tiny2")
    save_file({key: value.clone() for key, value in _hf2(state).items()}, tmp_path / "model.safetensors")
    _assert_same_outputs("tiny2", tmp_path, state)


def test_timm_without_bias(tmp_path: Path) -> None:
    state = random_state("tiny3")
    for key in state:
        if key.endswith("qkv.bias"):
            state[key].zero_()
    path = tmp_path / "timm.safetensors"
    save_file({key: value.clone() for key, value in _timm3_without_bias(state).items()}, path)
    _assert_same_outputs("tiny3", path, state)


@pytest.mark.parametrize("nest", [None, "teacher", "model", "state_dict"])
def test_torch_files(nest: str | None, tmp_path: Path) -> None:
    state = random_state("tiny2-reg4")
    path = tmp_path / "official.pth"
    torch.save(state if nest is None else {nest: state, "epoch": 3}, path)
    _assert_same_outputs("tiny2-reg4", path, state)


def test_half_precision_file(tmp_path: Path) -> None:
    state = {key: value.half() for key, value in random_state("tiny2").items()}
    torch.save(state, tmp_path / "half.pth")
    backbone = load_backbone("tiny2", tmp_path / "half.pth")
    assert backbone.dtype == torch.float32
    assert torch.equal(backbone.state_dict()["cls_token"], state["cls_token"].float())


@pytest.mark.parametrize("suffix", [".onnx", ".whl"])
def test_onnx_graph(suffix: str, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    state = random_state("tiny2")
    path = tmp_path / f"model{suffix}"
    _write_onnx(onnx, {f"backbone.{key}": value for key, value in _hf2(state).items()}, path)
    state["mask_token"] = torch.zeros(1, 48)
    _assert_same_outputs("tiny2", path, state)


def _write_onnx(onnx: object, state: State, path: Path) -> None:
    """As torch's exporter does: matrices anonymous and transposed, positions folded in two, a decoder behind."""
    import zipfile

    from onnx import helper, numpy_helper

    tensors, nodes = {"decoder.conv.weight": torch.zeros(3, 48, 1, 1)}, []
    for key, value in state.items():
        if key.endswith("position_embeddings"):
            tensors["onnx::Concat_1"], tensors["onnx::Reshape_2"] = value[:, :1], value[:, 1:]
        elif value.ndim == 2 and key.endswith(".weight"):
            number, bias = len(nodes), key.removesuffix("weight") + "bias"
            tensors[f"onnx::MatMul_{number + 10}"] = value.T
            nodes.append(helper.make_node("MatMul", [f"x{number}", f"onnx::MatMul_{number + 10}"], [f"y{number}"]))
            nodes.append(helper.make_node("Add", [bias, f"y{number}"], [f"z{number}"]))
        elif "mask_token" not in key:
            tensors[key] = value
    initializers = [numpy_helper.from_array(value.contiguous().numpy(), name) for name, value in tensors.items()]
    data = helper.make_model(helper.make_graph(nodes, "g", [], [], initializers)).SerializeToString()
    if path.suffix == ".onnx":
        path.write_bytes(data)
        return
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("package/models/net.onnx", data)


def test_masked_bias_may_be_anything() -> None:
    backbone = make_backbone("tiny3")
    images = random_images(16)
    with torch.no_grad():
        expected = backbone(images).patch
        for block in backbone.blocks:
            block.attn.qkv.bias[48:96] = float("nan")
        assert torch.equal(backbone(images).patch, expected)
