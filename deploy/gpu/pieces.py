"""What travels to the GPU and back: papers as token ids, weights in half precision, in small files.

Shared by ``prepare.py``, ``job.py`` and ``collect.py``; needs numpy, torch and safetensors. No file
is a pickle, and none is larger than 15 MiB.
"""

from __future__ import annotations

import io
import lzma
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

PIECE_BYTES = 15 << 20
LENGTH_STEP = 8
SPLITS = ("train", "valid", "test")


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays as one compressed piece, the two bytes of token ids apart: it packs better."""
    buffer = io.BytesIO()
    split = {
        name: np.ascontiguousarray(array).view(np.uint8).reshape(-1, 2).T
        if array.dtype == np.uint16
        else array
        for name, array in arrays.items()
    }
    np.savez(buffer, **split)  # type: ignore[arg-type]
    path.write_bytes(lzma.compress(buffer.getvalue(), preset=6))


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read what ``write_arrays`` wrote."""
    with np.load(io.BytesIO(lzma.decompress(path.read_bytes())), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return {
        name: np.ascontiguousarray(array.T).view(np.uint16).ravel()
        if array.dtype == np.uint8 and array.ndim == 2
        else array
        for name, array in arrays.items()
    }


def write_weights(
    folder: Path, state: Mapping[str, Tensor], piece_bytes: int = PIECE_BYTES
) -> None:
    """Write weights in half precision as small files; long tensors are cut by rows."""
    pieces: list[dict[str, Tensor]] = [{}]
    room = piece_bytes
    for name, tensor in state.items():
        half = tensor.detach().to("cpu", torch.float16).contiguous()
        n_parts = -(-half.nbytes // max(1, piece_bytes // 2))
        for i, part in enumerate(half.chunk(n_parts) if n_parts > 1 else [half]):
            if part.nbytes > room:
                pieces.append({})
                room = piece_bytes
            pieces[-1][f"{name}:{i}"] = part.clone()
            room -= part.nbytes
    for i, piece in enumerate(piece for piece in pieces if piece):
        save_file(piece, folder / f"weights-{i:02d}.safetensors")


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Return the float32 weights that ``write_weights`` wrote."""
    parts: dict[str, Tensor] = {}
    for path in sorted(folder.glob("weights-*.safetensors")):
        parts.update(load_file(path))
    names = sorted({key.rpartition(":")[0] for key in parts})
    state = {}
    for name in names:
        n_parts = sum(key.rpartition(":")[0] == name for key in parts)
        pieces = [parts[f"{name}:{i}"] for i in range(n_parts)]
        state[name] = (pieces[0] if n_parts == 1 else torch.cat(pieces)).float()
    return state


@dataclass(frozen=True, eq=False)
class Split:
    """n papers on the device.

    Attributes:
        tokens: int32 [all tokens], paper after paper.
        starts: int64 [n], where each paper begins.
        lengths: int64 [n], in tokens.
        title_lengths: int64 [n], tokens of segment 0.
        labels: int64 [n].
        listed: int64 [n, most], columns of the other listed categories, -1 where none.
        periods: int64 [n], index into ``meta["periods"]``.
    """

    tokens: Tensor
    starts: Tensor
    lengths: Tensor
    title_lengths: Tensor
    labels: Tensor
    listed: Tensor
    periods: Tensor

    def __len__(self) -> int:
        return len(self.lengths)


def read_split(folder: Path, files: Sequence[str], max_length: int) -> Split:
    """Read one split of prepared papers, cut to some length in tokens."""
    pieces = [read_arrays(folder / file) for file in files]

    def joined(key: str) -> Tensor:
        return torch.from_numpy(np.concatenate([piece[key] for piece in pieces]).astype(np.int64))

    lengths = joined("lengths")
    starts = torch.cumsum(lengths, 0) - lengths
    tokens = np.concatenate([piece["tokens"] for piece in pieces]).astype(np.int32)
    return Split(
        tokens=torch.from_numpy(tokens),
        starts=starts,
        lengths=lengths.clamp(max=max_length),
        title_lengths=joined("title_lengths"),
        labels=joined("labels"),
        listed=joined("listed"),
        periods=joined("periods"),
    )


def to_device(split: Split, device: torch.device) -> Split:
    """Return the split with its arrays on a device."""
    return Split(**{f.name: getattr(split, f.name).to(device) for f in fields(Split)})


def take_share(split: Split, share: float, seed: int) -> Split:
    """Return a random share of the papers, at least 64; all of them for a share of 1."""
    if share >= 1:
        return split
    n = min(len(split), max(64, round(share * len(split))))
    rows = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:n]
    kept = {f.name: getattr(split, f.name)[rows] for f in fields(Split) if f.name != "tokens"}
    return Split(tokens=split.tokens, **kept)


@dataclass(frozen=True, eq=False)
class Batch:
    """The papers of one step.

    Attributes:
        rows: int64 [b] on the CPU.
        longest: their padded length in tokens, known without asking the device.
    """

    rows: Tensor
    longest: int


def make_batches(
    lengths: Tensor, batch_tokens: int, generator: torch.Generator | None
) -> list[Batch]:
    """Return the steps: papers of like length, at most ``batch_tokens`` with their padding.

    Args:
        lengths: int64 [n] on the CPU.
        batch_tokens: of a step.
        generator: shuffles papers of like length, and the steps; None keeps them by length.
    """
    noise = torch.rand(len(lengths), generator=generator) * LENGTH_STEP if generator else 0
    order = torch.argsort(lengths + noise, stable=True)
    longest = torch.cummax(lengths[order], 0).values
    padded = (-(-longest // LENGTH_STEP) * LENGTH_STEP).tolist()
    firsts = [0]
    for i, length in enumerate(padded):
        if (i + 1 - firsts[-1]) * length > batch_tokens and i > firsts[-1]:
            firsts.append(i)
    ends = [*firsts[1:], len(padded)]
    batches = [
        Batch(order[first:end], padded[end - 1]) for first, end in zip(firsts, ends, strict=True)
    ]
    if generator is None:
        return batches
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def collate(split: Split, rows: Tensor, longest: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return ids, mask and segments of some papers: int64 [b, longest]."""
    lengths = split.lengths[rows]
    column = torch.arange(longest, device=lengths.device)
    mask = column < lengths[:, None]
    places = split.starts[rows][:, None] + torch.where(mask, column, 0)
    ids = torch.where(mask, split.tokens[places].long(), 0)
    # A paper that was cut ends, like any other, in the separator; each title is followed by one.
    last = split.tokens[split.starts[rows] + split.title_lengths[rows] - 1].long()
    ids[torch.arange(len(rows), device=ids.device), lengths - 1] = last
    segments = (mask & (column >= split.title_lengths[rows][:, None])).long()
    return ids, mask.long(), segments
