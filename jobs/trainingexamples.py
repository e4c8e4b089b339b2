"""Configs that ship with Tunehouse, to begin with: each is one that a submission takes as it stands."""

from dataclasses import dataclass
from typing import Any

FLUX_LORA: dict[str, Any] = {
    "model_family": "flux",
    "model_type": "lora",
    "pretrained_model_name_or_path": "black-forest-labs/FLUX.1-dev",
    "lora_type": "standard",
    "lora_rank": 16,
    "lora_alpha": 16,
    "flux_lora_target": "all",
    "base_model_precision": "int8-quanto",
    "mixed_precision": "bf16",
    "gradient_checkpointing": True,
    "optimizer": "adamw_bf16",
    "learning_rate": 1e-4,
    "lr_scheduler": "constant",
    "lr_warmup_steps": 0,
    "max_grad_norm": 1.0,
    "train_batch_size": 1,
    "max_train_steps": 300,
    "num_train_epochs": 0,
    "resolution": 512,
    "resolution_type": "pixel_area",
    "caption_dropout_probability": 0.1,
    "checkpoint_step_interval": 100,
    "checkpoints_total_limit": 3,
    "validation_step_interval": 100,
    "validation_prompt": "a lighthouse on a cliff at dawn, painted in broad strokes",
    "validation_resolution": "1024x1024",
    "validation_guidance": 3.5,
    "validation_num_inference_steps": 20,
    "validation_seed": 42,
    "report_to": "none",
    "seed": 42,
}

# What the others share with it.
_COMMON = {
    name: FLUX_LORA[name]
    for name in (
        "mixed_precision", "gradient_checkpointing", "optimizer", "lr_warmup_steps", "max_grad_norm", "num_train_epochs", "resolution_type",
        "caption_dropout_probability", "checkpoints_total_limit", "validation_prompt", "validation_resolution", "validation_seed",
        "report_to", "seed",
    )
}  # fmt: skip
_LORA = {**_COMMON, "model_type": "lora", "lora_type": "standard", "lora_rank": 16, "lora_alpha": 16, "learning_rate": 1e-4}


@dataclass(frozen=True)
class Example:
    """A config to begin with. `name` is what clients send, `description` is for people and in English."""

    name: str
    description: str
    config: dict[str, Any]


EXAMPLES: tuple[Example, ...] = (
    Example("flux-lora", "A LoRA of FLUX.1-dev that is small and done soon: 300 steps at 512 pixels.", FLUX_LORA),
    Example(
        "flux-lora-style",
        "A LoRA of FLUX.1-dev for a style or a subject in detail: 2,000 steps at 1024 pixels.",
        {**FLUX_LORA, "max_train_steps": 2000, "resolution": 1024, "checkpoint_step_interval": 500, "validation_step_interval": 500},
    ),
    Example(
        "sdxl-lora",
        "A LoRA of Stable Diffusion XL: 1,500 steps at 1024 pixels.",
        {
            **_LORA,
            "model_family": "sdxl",
            "pretrained_model_name_or_path": "stabilityai/stable-diffusion-xl-base-1.0",
            "lr_scheduler": "polynomial",
            "train_batch_size": 2,
            "max_train_steps": 1500,
            "resolution": 1024,
            "checkpoint_step_interval": 500,
            "validation_step_interval": 500,
            "validation_guidance": 7.5,
            "validation_num_inference_steps": 30,
        },
    ),
    Example(
        "sd3-lora",
        "A LoRA of Stable Diffusion 3.5 Large: 1,500 steps at 1024 pixels.",
        {
            **_LORA,
            "model_family": "sd3",
            "pretrained_model_name_or_path": "stabilityai/stable-diffusion-3.5-large",
            "base_model_precision": "int8-quanto",
            "lr_scheduler": "constant",
            "train_batch_size": 1,
            "max_train_steps": 1500,
            "resolution": 1024,
            "checkpoint_step_interval": 500,
            "validation_step_interval": 500,
            "validation_guidance": 5.0,
            "validation_num_inference_steps": 28,
        },
    ),
    Example(
        "sdxl-full",
        "All of Stable Diffusion XL, not only a LoRA: 1,000 steps at 1024 pixels. It needs a large GPU such as an H100.",
        {
            **_COMMON,
            "model_family": "sdxl",
            "model_type": "full",
            "pretrained_model_name_or_path": "stabilityai/stable-diffusion-xl-base-1.0",
            "learning_rate": 1e-6,
            "lr_scheduler": "constant",
            "train_batch_size": 2,
            "max_train_steps": 1000,
            "resolution": 1024,
            "checkpoint_step_interval": 500,
            "validation_step_interval": 500,
            "validation_guidance": 7.5,
            "validation_num_inference_steps": 30,
        },
    ),
)


def named(name: str) -> Example | None:
    """The example of this name, if there is one."""
    return next((example for example in EXAMPLES if example.name == name), None)
