"""Whatever a file of data holds: a clean run, or one line of the project's own.

``FUZZ_SEED=7 pytest tests/chaos/test_fuzz_files.py`` repeats one mutation.
"""

import json
import shutil
import warnings
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import zarr

from support.fuzz_ground import MODEL, X, fit, special_array
from support.fuzzing import (
    flip_file,
    mutate_bytes,
    mutate_lines,
    run_command,
    seeds,
    shortened,
    survive,
    toml,
)

pytestmark = [
    pytest.mark.usefixtures("on_ground"),
    pytest.mark.filterwarnings("ignore::dadmm.errors.FactorWarning"),
    pytest.mark.filterwarnings("ignore::dadmm.errors.OrderWarning"),
    pytest.mark.timeout(0),  # fuzzing.guard watches every case
    pytest.mark.filterwarnings("ignore:A column-vector y"),
]


def mutated_file(rng, seed):
    """Write a mutated input; return its path, and in words what it is."""
    kind = rng.choice([csv_file, npy_file, npy_file, zarr_array])
    return kind(rng, seed)


CELLS = [
    "", " ", "nan", "NaN", "inf", "-Infinity", "1e999", "1e308", "-1e38", "9" * 400, "0x10",
    "1_000",
    "1,5", '"1.5"', '"1', '""', "'1'", "u", "é", "\U0001f600", "\x00", "True", "None", "#REF!",
    "१२",
    "1e-320", "-0", "+5", " 7 ", "\x1b[31m", "x" * 200_000, "1" * 100_000, "1\x0b2", "\u2028", "1e",
]  # fmt: skip


def csv_file(rng, seed):
    content = Path(rng.choice(["x.csv", "table.csv"])).read_bytes()
    lines = content.split(b"\n")
    kind = rng.randrange(12)
    if kind < 4:
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(lines))
            cells = lines[at].decode("utf-8", "replace").split(",")
            cells[rng.randrange(len(cells))] = rng.choice(CELLS)
            lines[at] = ",".join(cells).encode()
        content = b"\n".join(lines)
    elif kind < 6:
        content = mutate_bytes(rng, content)
    elif kind < 8:
        content = mutate_lines(rng, content)
    elif kind == 8:
        new = rng.choice([b";", b"\t", b"|", b" ", b",,", b", ", b";,"])
        content = content.replace(b",", new)
    elif kind == 9:
        new = rng.choice([b"\r\n", b"\r", b"\n\n", b" \n", b",\n", b"\n,,,,\n", b"\x0c"])
        content = content.replace(b"\n", new)
    elif kind == 10:
        text = content.decode().replace("b", "é").replace("dog", "dög")
        content = text.encode(rng.choice(["latin-1", "utf-16", "utf-8-sig", "utf-32"]))
    else:
        content = rng.choice(
            [b"", b"\n", b"a,b,c,d", b"a,b,c,d\n", b"1,2,3,4", b"1,2,3,4\n", b"1,2,3,4\n2,3,4,5",
             b"\xef\xbb\xbf", b'"', b",,,\n,,,\n", b"1\n2\n3\n", b"0,1,2,3,4\n" * 3, b"a\n" * 50,
             b"1,2,3,4," + b"5," * 50_000, b"1,2,3,4\n" * 5000, lines[0] + b"\n" + lines[1]]
        )  # fmt: skip
    return write(f"fuzz-{seed}.csv", content), f"csv: {shortened(content)}"


def write(path, content):
    Path(path).write_bytes(content)
    return path


def npy_header(shape, descr="<f8", order=False, version=1):
    text = f"{{'descr': {descr!r}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(2, "little") + text


def npy_file(rng, seed):
    path = f"fuzz-{seed}.npy"
    kind = rng.randrange(10)
    if kind < 3:
        content = mutate_bytes(rng, Path(rng.choice(["x.npy", "y.npy"])).read_bytes())
    elif kind == 3:
        source = Path("x.npy").read_bytes()
        content = mutate_bytes(rng, source[:128]) + source[128:]
    elif kind < 6:
        shape = rng.choice(
            ["(48, 4)", "(10**9, 10**9)", "(1000000000000, 4)", "(48, 100000000000)", "(-48, 4)",
             "(48, -4)", "(0, 4)", "(48, 0)", "(0, 0)", "()", "(48,)", "(12, 4, 4)", "(48.0, 4)",
             "(9223372036854775808, 4)", "(4611686018427387904, 4)", "[48, 4]", "None", "'x'",
             "(True, 4)", "(49, 4)", "(4294967296, 4294967296)", "((48, 4),)"]
        )  # fmt: skip
        descr = rng.choice(
            ["<f8", ">f8", "<f4", "<f2", "<i8", "|b1", "|u1", "<c16", "|O", "<U5", "|S8", "<M8[s]",
             "<m8[s]", "|V8", "<f16", "<g8", "", "x", [("a", "<f8")], [("a", "<f4"), ("b", "<f4")],
             5, None, "<U999999999", "8f8", ("<f8", (2,))]
        )  # fmt: skip
        content = npy_header(shape, descr, rng.choice([True, False, 3]), rng.choice([1, 1, 2, 9]))
        content += X.tobytes()
    else:
        array = special_array(rng)
        np.save(path, array, allow_pickle=True)
        return path, f"npy: {array.dtype} {array.shape}"
    return write(path, content), f"npy: {shortened(content)}"


def zarr_array(rng, seed):
    path = Path(f"fuzz-{seed}.zarr")
    shutil.copytree("x.zarr", path)
    document = path / "zarr.json"
    chunks = sorted(p for p in (path / "c").rglob("*") if p.is_file())
    kind = rng.randrange(10)
    if kind < 2:
        flip_file(rng, document)
    elif kind == 2:
        flip_file(rng, rng.choice(chunks))
    elif kind == 3:
        rng.choice(chunks).unlink()
    elif kind == 4:
        chunk = rng.choice(chunks)
        chunk.write_bytes(chunk.read_bytes()[: rng.randrange(40)])
    elif kind == 5:
        rng.choice([document.unlink, lambda: shutil.rmtree(path / "c")])()
    elif kind == 6:
        text = document.read_text()
        document.write_text(text.replace('"array"', '"group"'))
    elif kind == 7:
        shutil.rmtree(path)
        zarr.create_array(str(path), data=special_zarr(rng), zarr_format=rng.choice([2, 3]))
    else:
        content = json.loads(document.read_text())
        edit(rng, content)
        document.write_text(json.dumps(content))
    return str(path), f"zarr: {document.read_bytes() if document.exists() else 'no document'}"


def special_zarr(rng):
    x = special_array(rng)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return x if x.dtype.kind in "biuf" and x.dtype.itemsize < 16 else X


def edit(rng, content):
    """Put something else into a zarr array's metadata."""
    match rng.randrange(6):
        case 0:
            content["shape"] = rng.choice(
                [[10**15, 4], [10**15, 10**15], [48, 10**12], [48], [], [-1, 4], [0, 4], [49, 4],
                 [48, 4, 1], ["48", 4], [48.5, 4], 48, None, [10**30, 4], [40, 4], [10**8, 4]]
            )  # fmt: skip
        case 1:
            grid = content["chunk_grid"]["configuration"]
            grid["chunk_shape"] = rng.choice(
                [[0, 4], [-1, 4], [10**15, 4], [20], [20, 4, 1], [1, 1], [10**30, 4], "x", [48, 4]]
            )
        case 2:
            content["codecs"] = rng.choice(
                [[], [{"name": "nope"}], [{"name": "bytes"}], "x", [{"name": "zstd"}], [{}],
                 [{"name": "bytes", "configuration": {"endian": "big"}}, {"name": "crc32c"}]]
            )  # fmt: skip
        case 3:
            content["data_type"] = rng.choice(
                ["int64", "bool", "float16", "float32", "complex64", "string", "x", 5, None,
                 {"name": "numpy.datetime64", "configuration": {"unit": "s", "scale_factor": 1}}]
            )  # fmt: skip
        case 4:
            content["fill_value"] = rng.choice(
                ["NaN", "x", None, [], 10**400, "0x7fc0000000000000"]
            )
        case _:
            del content[rng.choice(list(content))]


def files(rng, seed):
    path, words = mutated_file(rng, seed)
    match rng.randrange(4):
        case 0:
            config = {"data": {"x": path, "y": rng.choice(["y.npy", "y.zarr"])}, "model": MODEL}
        case 1:
            config = {"data": {"x": rng.choice(["x.npy", "x.csv", "x.zarr"]), "y": path}}
            config["model"] = {**MODEL, "task": rng.choice(["classification", "regression"])}
        case 2:
            config = {"data": {"x": path}, "model": MODEL}
            if path.endswith("csv"):
                config["data"] |= rng.choice(
                    [{}, {"y": "kind"}, {"test_fraction": 0.25}, {"y": "a"}]
                )
            else:
                config["data"] |= {"y": "y.npy", "test_fraction": rng.choice([0.01, 0.5, 0.99])}
        case _:
            config = None
    if config is None:
        run, end = rng.choice(["labels", "numbers"]), rng.choice([".npy", ".csv", ".zarr"])
        _, _, wrong = run_command("predict", run, path, f"out-{seed}{end}")
        words = f"predict {run} to {end}: {words}"
    else:
        words = f"{config}: {words}"
        wrong = fit(toml(config).encode(), seed)
    for left in chain(Path().glob(f"fuzz-{seed}.*"), Path().glob(f"out-{seed}*")):
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    if Path("unpickled").exists():
        Path("unpickled").unlink()
        wrong = "something was unpickled"
    return words, wrong


@seeds()
def test_files(batch):
    survive(files, batch)
