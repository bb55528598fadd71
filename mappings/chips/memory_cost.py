"""What a memory that replays costs beside the network that it teaches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mappings.chips.chip import Chip
from mappings.chips.placement import list_bits
from wage_neuro.memory import Reservoir, slots_to_keep

WHERE = "off the neurocores: in the host, which sends the images in anyway"
NOTES = (
    "Nothing published says that a neurocore can take in, replace and recall whole images, or draw the random"
    " numbers for it; how much memory the chip's embedded processors have is not published either.",
    "Energy and time of the memory's own reads and writes are not published, not counted; the images that it"
    " sends in are.",
)


@dataclass(frozen=True)
class MemoryCost:
    """A reservoir of samples, and the bytes that move for one new sample of the stream.

    Attributes
    ----------
    samples, bytes : what it can hold; images, labels and logits if there are any
    read, written : bytes a new sample: one sample is recalled; the share that was kept, mean of the stream
    synapse_cores : cores that it would fill if each image were the synapses of an axon
    """

    samples: int
    bytes: int
    read: float
    written: float
    synapse_cores: int

    @classmethod
    def of(cls, memory: Reservoir, chip: Chip, k_A: int, stream: int) -> MemoryCost:
        """Cost of a memory over a stream of so many new samples, as input codes of k_A bits in synapses."""
        samples, pixels = len(memory.images), int(np.prod(memory.images.shape[1:]))
        kept = (slots_to_keep(memory.seed, 0, stream, samples) >= 0).sum()
        one = memory.bytes / samples
        bits = samples * int(list_bits(chip, np.array(pixels), k_A))
        cores = max(-(-bits // chip.core_memory), -(-samples // chip.axons_in))
        return cls(samples, memory.bytes, one, float(one * kept / stream), cores)

    def to_json(self) -> dict[str, Any]:
        """All of it, for the report."""
        return {
            "where": WHERE,
            "samples": self.samples,
            "bytes": self.bytes,
            "bytes_read_a_new_sample": self.read,
            "bytes_written_a_new_sample": self.written,
            "cores_if_images_were_synapses": self.synapse_cores,
        }
