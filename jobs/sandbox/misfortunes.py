"""How a prediction can be made to fail: by the trainer in its own words, or by the platform around it.

Source: PyTorch's and huggingface_hub's messages; Replicate docs, reference/error-codes. Where the docs describe a code and nobody
has quoted its text, the text is the description; the refusal of the classifiers is ours, too.
"""

from __future__ import annotations

from dataclasses import dataclass

HALF_WAY = {
    "out_of_memory": (
        "CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0 has a total capacity of 44.39 GiB of which 512.31 MiB is free. "
        "Including non-PyTorch memory, this process has 43.88 GiB memory in use."
    ),
    "nan_loss": "Encountered NaN values in the training loss at step {step}.",
}
GATED = (
    "Access to model {model} is restricted and you are not in the authorized list. Visit https://huggingface.co/{model} to ask for access."
)
GATED_MODEL = (
    "403 Client Error. (Request ID: Root=1-sandbox)\n\n"
    "Cannot access gated repo for url https://huggingface.co/{model}/resolve/main/model_index.json.\n"
    f"{GATED}"
)
NSFW = "NSFW content was detected in the dataset {dataset}: 1 sample was flagged by 2 of 3 classifiers. Training is refused."


@dataclass(frozen=True)
class PlatformFault:
    """A fault of Replicate's: what it says, and whether the machine fails to start, dies at once, or dies `half_way` with its logs kept."""

    error: str
    when: str  # "booting", "starting" or "half_way"


PLATFORM = {
    "PA": PlatformFault("Prediction interrupted; please retry (code: PA)", "starting"),
    "E1000": PlatformFault("Unknown error (E1000)", "starting"),
    "E1001": PlatformFault("Out of memory (E1001)", "half_way"),
    "E6716": PlatformFault("Timeout starting prediction (E6716)", "booting"),
    "E8367": PlatformFault("Prediction stopped in a non-terminal state (E8367)", "half_way"),
    "E8765": PlatformFault("Director: unexpected error handling prediction (E8765)", "booting"),
    "E9243": PlatformFault("Error starting prediction (E9243)", "booting"),
    "E9828": PlatformFault("Director: unexpected error handling prediction (E9828)", "starting"),
}

KINDS = (*HALF_WAY, "gated_model", "nsfw", "no_images", *PLATFORM)


class MachineDied(Exception):
    """The platform lost the machine in the middle of a run, which has no chance to say a last word."""
