"""Writes the files in vectors/, and in vectors/expected.json what their tensors must load as, by torch and numpy.

    pip install torch numpy safetensors gguf
    python make_vectors.py
"""
import json
import os
import struct
import zipfile
from pathlib import Path

import gguf
import numpy as np
import safetensors.numpy
import torch

HERE = Path(__file__).parent / "vectors"
HERE.mkdir(exist_ok=True)
torch.manual_seed(20)
EXPECTED = {}


def bits(array):
    if isinstance(array, torch.Tensor):
        return array.detach().to(torch.float32).contiguous().view(torch.int32).flatten().tolist()
    return np.ascontiguousarray(array, np.float32).view(np.int32).ravel().tolist()


def is_number(array):
    if isinstance(array, torch.Tensor):
        return array.dtype != torch.bool and not array.dtype.is_complex
    return array.dtype.kind in "fiu"


def expect(file, tensors):
    """tensors by the name they must have, in the file's order; those that are not of numbers only by name."""
    EXPECTED[file] = {
        name: dict(shape=list(t.shape), bits=bits(t)) if is_number(t) else None for name, t in tensors.items()}


def save(file, value, tensors, **options):
    torch.save(value, HERE / file, **options)
    expect(file, tensors)


def make_pt():
    x = torch.randn(3, 5, dtype=torch.float64)
    for name, dtype in dict(f64=torch.float64, f32=torch.float32, f16=torch.float16, bf16=torch.bfloat16).items():
        save(f"{name}.pt", x.to(dtype), {"": x.to(dtype)})
    save("protocol5.pth", {"v": x[0].clone()}, {"v": x[0]}, pickle_protocol=5)
    save("list.pt", [x[0].clone(), x[1:].clone()], {"[0]": x[0], "[1]": x[1:]})

    base = torch.arange(48, dtype=torch.float32).reshape(6, 8) / 4
    cube = base.reshape(2, 3, 8)
    views = dict(
        base=base, transposed=base.T, columns=base[:, :3], late_columns=base[:, 5:], rows=base[2:4],
        every_other_row=base[1::2], every_other_value=base[:, ::2], column=base[:, 6], last=base[-1],
        permuted=cube.permute(2, 0, 1), swapped=cube.transpose(0, 1),
        expanded=base[1, :4].expand(3, 4), diagonal=base.diagonal(), overlapping=base.as_strided((4, 5), (2, 1), 3),
        one=base[5:, 7:], none=base[:0], scalar=base[3, 3])
    save("views.pt", views, views)

    v = [torch.randn(4) for _ in range(6)]
    nested = {
        "layers": [v[0], {"deep": (v[1], v[2])}, torch.stack(v)], 10: v[3],
        "by": {-1: v[4], 2.5: v[5], "layers[0]": v[0]},
        "again": v[0], "parameter": torch.nn.Parameter(v[1]),
        "plain": [None, True, False, 0, 255, 65535, -1, 2**31, -2**40, 2**70, -2**100, 0.5, "text", "täxt",
                  "x" * 300, (), (1,), [], {}],
        "torch": [torch.Size([2, 3]), torch.float32, torch.bfloat16, torch.bool, torch.device("cpu"),
                  torch.device("cuda", 1)]}
    save("nested.pt", nested, {
        "layers[0]": v[0], "layers[1].deep[0]": v[1], "layers[1].deep[1]": v[2],
        "layers[2]": torch.stack(v), "10": v[3], "by.-1": v[4], "by.2.5": v[5], "by.layers[0]": v[0], "again": v[0],
        "parameter": v[1]})

    pair = {"layers": [torch.tensor([3.0, 4.0]), torch.tensor([[1.0, 2.0], [0.0, -5.0]])]}
    save("pair.pt", pair, {"layers[0]": pair["layers"][0], "layers[1]": pair["layers"][1]})

    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    save("state_dict.pt", model.state_dict(), model.state_dict())

    kinds = {str(d)[6:]: torch.arange(4).to(d) for d in
             (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)}
    save("integers.pt", kinds, kinds)
    extremes = {str(d)[6:]: torch.tensor([torch.iinfo(d).min, torch.iinfo(d).max, 1]).to(d) for d in
                (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32)}
    save("extremes.pt", extremes, extremes)
    turned = {"f64": x.T, "i64": torch.arange(24).reshape(2, 3, 4).permute(2, 0, 1)}
    save("turned.pt", turned, turned)
    save("many.pt", {f"v{i}": v[0] for i in range(15)}, {f"v{i}": v[0] for i in range(15)})

    save("deflated.pt", {"v": base, "t": base.T}, {"v": base, "t": base.T})
    rezip("deflated.pt", "deflated.pt", zipfile.ZIP_DEFLATED)


def rezip(source, target, method=zipfile.ZIP_STORED, **replaced):
    with zipfile.ZipFile(HERE / source) as z:
        entries = {i.filename: z.read(i) for i in z.infolist()}
    with zipfile.ZipFile(HERE / target, "w", method) as z:
        for name, content in entries.items():
            change = replaced.get(name.split("/", 1)[1], content)
            content = change(content) if callable(change) else change
            if content is not None:
                z.writestr(zipfile.ZipInfo(name), content, method)


def numbers():
    """Arrays of numpy as people leave them, and two that are not of numbers."""
    x = np.random.default_rng(5).normal(size=(3, 5))
    cube = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 4
    arrays = {
        "f4": x.astype("<f4"), "f8": x, "f2": x.astype("<f2"), "fortran": np.asfortranarray(x),
        "fortran_cube": np.asfortranarray(cube), "slice": x[1:, ::2], "row": np.asfortranarray(x[:1]),
        "none": np.asfortranarray(x[:0]), "scalar": np.array(2.5),
        "big_f2": x.astype(">f2"), "big_f4": x.astype(">f4"), "big_f8": np.asfortranarray(x.astype(">f8")),
        "big_i4": np.arange(-2, 4, dtype=">i4"), "big_u2": np.asfortranarray(np.arange(6, dtype=">u2").reshape(2, 3)),
        "bool": np.array([True, False]), "text": np.array(["a", "bc"])}
    for code in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"):
        kind = np.iinfo(code)
        arrays[code] = np.array([kind.min, kind.max, 1, kind.max // 3], code)
    # between two numbers of float32: to the nearest, ties to even
    arrays["ties"] = np.array([2**24 + 1, 2**24 + 3, -(2**24) - 1, 2**62 + 2**38, 2**62 + 2**38 + 1], "i8")
    arrays["high"] = np.array([2**63, 2**64 - 1, 2**63 + 2**39, 2**63 + 2**39 + 1], "u8")
    return arrays


def make_numpy():
    arrays = numbers()
    for name in ("fortran", "fortran_cube", "big_f2", "big_f4", "big_f8", "big_u2", "ties"):
        np.save(HERE / f"{name}.npy", arrays[name])
        expect(f"{name}.npy", {"": arrays[name]})
    np.savez(HERE / "numbers.npz", **arrays)
    expect("numbers.npz", arrays)
    np.savez_compressed(HERE / "numbers_deflated.npz", **arrays)
    expect("numbers_deflated.npz", arrays)
    whole = {k: np.ascontiguousarray(v) for k, v in arrays.items() if v.dtype.byteorder != ">" and k not in ("scalar", "text")}
    safetensors.numpy.save_file(whole, HERE / "numbers.safetensors")
    with safetensors.safe_open(HERE / "numbers.safetensors", "np") as file:
        expect("numbers.safetensors", {k: whole[k] for k in file.offset_keys()})

    objects = {**arrays, "objects": np.array([{"a": 1}, None], object)}
    save("numpy.pt", objects, objects)
    save("numpy_protocol5.pt", objects, objects, pickle_protocol=5)
    rezip("numpy.pt", "numpy_old.pt", **{"data.pkl": lambda pickle: pickle.replace(b"cnumpy._core.", b"cnumpy.core.")})
    EXPECTED["numpy_old.pt"] = EXPECTED["numpy.pt"]
    save("numpy_alone.pt", arrays["fortran"], {"": arrays["fortran"]})
    mixed = {"layers": [arrays["f4"], torch.tensor(arrays["f8"])], "k": np.int64(8), "scale": np.float32(0.5),
             "big": np.dtype(">f8").type(2), "flag": np.bool_(True), "name": np.str_("täxt"), "bytes": b"\xff"}
    save("numpy_mixed.pt", mixed, {"layers[0]": mixed["layers"][0], "layers[1]": mixed["layers"][1], "name": mixed["name"]})


class Command:
    """Loaded by a careless reader, it would run; saved, it is only text."""

    def __reduce__(self):
        return os.system, ("touch executed",)


def make_refused_pt():
    v = torch.ones(4)
    torch.save(v, HERE / "legacy.pt", _use_new_zipfile_serialization=False)
    rezip("f32.pt", "big_endian.pt", byteorder=b"big")
    rezip("f32.pt", "short.pt", **{"data/0": bytes(56)})
    rezip("f32.pt", "no_storage.pt", **{"data/0": None})
    torch.save({"v": v, "x": Command()}, HERE / "command.pt")
    torch.save({"v": np.ma.masked_array(np.ones(4))}, HERE / "masked.pt")
    torch.save({"v": v.to(torch.complex64)}, HERE / "complex.pt")
    torch.save({("a", 1): v}, HERE / "tuple_key.pt")
    torch.save({"a": {"b": v}, "a.b": v}, HERE / "same_name.pt")
    itself = [v]
    itself.append(itself)
    torch.save(itself, HERE / "cycle.pt")
    doubling = [1]
    for _ in range(30):
        doubling = [doubling, doubling]
    torch.save(doubling, HERE / "doubling.pt")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), HERE / "script.pt")


def control(file, arrays, endianness=gguf.GGUFEndian.LITTLE, alignment=None, types={}):
    w = gguf.GGUFWriter(HERE / file, "controlvector", endianess=endianness)
    w.add_string("controlvector.model_hint", "a-model")
    w.add_uint32("controlvector.layer_count", len(arrays))
    w.add_array("controlvector.tags", ["a", "bc"])
    w.add_array("controlvector.numbers", [1.5, 2.5, 3.5])
    w.add_bool("controlvector.normalize", True)
    if alignment:
        w.add_custom_alignment(alignment)
    for name, array in arrays.items():
        w.add_tensor(name, array, raw_dtype=types.get(name))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def make_gguf():
    rows = np.random.default_rng(20).normal(size=(3, 5)).astype(np.float32)
    named = {f"direction.{i + 1}": row for i, row in enumerate(rows)}
    torched = {name: torch.from_numpy(row) for name, row in named.items()}
    control("control.gguf", named)
    expect("control.gguf", torched)
    control("aligned.gguf", named, alignment=1024)
    expect("aligned.gguf", torched)
    version2 = bytearray((HERE / "control.gguf").read_bytes())
    version2[4:8] = struct.pack("<I", 2)
    (HERE / "version2.gguf").write_bytes(version2)
    expect("version2.gguf", torched)
    control("zero_based.gguf", {f"direction.{i}": row for i, row in enumerate(rows)})
    expect("zero_based.gguf", {f"direction.{i}": torch.from_numpy(row) for i, row in enumerate(rows)})
    control("pair.gguf", {"direction.0": np.array([3, 4], np.float32), "direction.1": np.array([0, -5], np.float32)})
    expect("pair.gguf", {"direction.0": torch.tensor([3.0, 4.0]), "direction.1": torch.tensor([0.0, -5.0])})
    half = {name: row.astype(np.float16) for name, row in named.items()}
    control("half.gguf", half)
    expect("half.gguf", {name: torch.from_numpy(row) for name, row in half.items()})
    brain = {name: t.to(torch.bfloat16) for name, t in torched.items()}
    control("brain.gguf", {name: t.view(torch.uint8).numpy() for name, t in brain.items()},
            types={name: gguf.GGMLQuantizationType.BF16 for name in brain})
    expect("brain.gguf", brain)
    control("big_endian.gguf", named, endianness=gguf.GGUFEndian.BIG)
    q8 = gguf.GGMLQuantizationType.Q8_0
    block = gguf.quants.quantize(np.ones(32, np.float32), q8)
    control("quantised.gguf", {"direction.1": np.ones(32, np.float32), "direction.2": block}, types={"direction.2": q8})
    control("model.gguf", {"token_embd.weight": rows})
    control("lengths.gguf", {"direction.1": rows[0], "direction.2": rows[1][:4].copy()})
    control("matrix.gguf", {"direction.1": rows})


def make_svec():
    directions = {"1": [0.5, -1.25, 1e-3], "12": [float(np.float32(0.1)), 2, 3e2]}
    text = dict(model_type="llama", directions=directions, explained_variances={"1": 0.5, "12": 0.75})
    (HERE / "two.svec").write_text(json.dumps(text) + "\n")
    expect("two.svec", {k: torch.tensor(v, dtype=torch.float64) for k, v in directions.items()})


make_pt()
make_numpy()
make_refused_pt()
make_gguf()
make_svec()
(HERE / "expected.json").write_text(json.dumps(EXPECTED, separators=(",", ":")) + "\n")
