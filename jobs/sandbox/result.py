"""What a training run leaves behind: a real LoRA, checkpoints, sample images, its configuration and a model card.

The same prediction writes the same bytes again after a crash.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from safetensors.numpy import save_file

WEIGHTS = "pytorch_lora_weights.safetensors"
HIDDEN = 3072  # width of Flux's transformer
MAX_RANK = 1024
KEPT_CHECKPOINTS = 3
DOUBLE = ("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0")
SINGLE = ("attn.to_q", "attn.to_k", "attn.to_v")


def write(folder: Path, *, prediction: str, base_model: str, rank: int, steps: int, config: dict[str, Any]) -> None:
    """Complete the output folder of a run; of the checkpoints in it only the last ones stay, as by --checkpoints_total_limit."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_lora(folder / WEIGHTS, step=steps, base_model=base_model, prediction=prediction, rank=rank)
    saved = sorted(folder.glob("checkpoint-*"), key=lambda each: int(each.name.partition("-")[2]))
    for checkpoint in saved[:-KEPT_CHECKPOINTS]:
        shutil.rmtree(checkpoint)
    draw_samples(folder, prediction=prediction, step=steps)
    (folder / "simpletuner_config.json").write_text(json.dumps(config, indent=2, sort_keys=True))
    (folder / "README.md").write_text(_card(base_model, rank, steps, prediction))


def write_checkpoint(folder: Path, *, prediction: str, base_model: str, rank: int, step: int) -> Path:
    """Write what a resumed training would start from, and answer where."""
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True, exist_ok=True)
    _write_lora(checkpoint / WEIGHTS, step=step, base_model=base_model, prediction=prediction, rank=rank)
    (checkpoint / "training_state.json").write_text(json.dumps({"global_step": step}))
    return checkpoint


def draw_samples(folder: Path, *, prediction: str, step: int) -> None:
    """Draw what the model can do after `step` steps."""
    images = folder / "validation_images"
    images.mkdir(parents=True, exist_ok=True)
    for number in range(2):
        _draw(images / f"step_{step}_sample_{number}.png", f"{prediction} {number}", step)


def inventory(folder: Path, prefix: str) -> list[dict[str, Any]]:
    """List key, size and SHA-256 of every file as it stands on this disk."""
    found = []
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        key = path.relative_to(folder).as_posix()
        found.append({"key": f"{prefix}/{key}" if prefix else key, "size": path.stat().st_size, "sha256": digest})
    return found


def _write_lora(path: Path, *, base_model: str, prediction: str, rank: int, step: int) -> None:
    seed = int.from_bytes(hashlib.sha256(f"{prediction} {step}".encode()).digest()[:8])
    source = np.random.default_rng(seed)
    tensors = {}
    for layer in _layers(rank):
        tensors[f"{layer}.lora_A.weight"] = _weights(source, rank, HIDDEN)
        tensors[f"{layer}.lora_B.weight"] = _weights(source, HIDDEN, rank)
    metadata = {"format": "pt", "base_model": base_model, "steps": str(step), "rank": str(rank), "prediction": prediction}
    save_file(tensors, path, metadata=metadata)
    _sort_metadata(path)


def _sort_metadata(path: Path) -> None:
    """Put the metadata in order, in place: the library writes it in a random one, and the same run shall give the same bytes."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        file.seek(8)
        file.write(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length))


def _weights(source: np.random.Generator, rows: int, columns: int) -> np.ndarray[Any, Any]:
    return ((source.random((rows, columns), dtype=np.float32) - 0.5) * 0.02).astype(np.float16)


def _layers(rank: int) -> Iterator[str]:
    """Name layers of Flux as diffusers does, fewer at a high rank, so that a file stays at about ten MiB."""
    blocks = max(1, 128 // rank) if rank > 16 else 8
    for block in range(blocks):
        yield from (f"transformer.transformer_blocks.{block}.{part}" for part in DOUBLE)
        yield from (f"transformer.single_transformer_blocks.{block}.{part}" for part in SINGLE)


def _draw(path: Path, seed: str, steps: int) -> None:
    chance = random.Random(seed)  # noqa: S311 (a picture)
    image = Image.new("RGB", (256, 256), tuple(chance.randrange(40, 120) for _ in range(3)))
    pen = ImageDraw.Draw(image)
    for _ in range(24):
        x, y, size = chance.randrange(256), chance.randrange(256), chance.randrange(10, 80)
        pen.ellipse((x - size, y - size, x + size, y + size), outline=tuple(chance.randrange(256) for _ in range(3)), width=3)
    pen.text((8, 236), f"sandbox sample, step {steps}", fill="white")
    image.save(path)


def _card(base_model: str, rank: int, steps: int, prediction: str) -> str:
    return (
        f"---\nbase_model: {base_model}\ntags:\n- lora\n- simpletuner\n- sandbox\n---\n\n"
        f"# LoRA of sandbox prediction {prediction}\n\n"
        f"Rank {rank}, {steps} steps. Written by Tunehouse's sandbox: the shapes are real, the numbers are random.\n"
    )
