"""What a memory that replays costs beside the network that it teaches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mappings.chips.chip import Chip
from mappings.chips.placement import list_bits
from wage_neuro.memory import Reservoir

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
    samples, bytes : what it can hold; images, labels, logits and what is known of classes if there are any
    bits : of a pixel
    recalled : samples for each new one
    read, written : bytes a new sample: those recalled; the share that was kept, mean of the stream
    synapse_cores : cores that it would fill if each image were the synapses of an axon
    """

    samples: int
    bytes: int
    bits: int
    recalled: int
    read: float
    written: float
    synapse_cores: int

    @classmethod
    def of(cls, memory: Reservoir, chip: Chip, k_A: int, stream: np.ndarray, recalled: int = 1) -> MemoryCost:
        """Cost of a memory over a stream.

        Parameters
        ----------
        k_A : bits of an input code; in synapses a pixel has as many, or the fewer that are kept of it
        stream : (n,) labels of the new samples, in their order
        recalled : samples for each new one
        """
        samples, pixels = len(memory.labels), int(np.prod(memory.image_shape))
        rows = (array for array in (memory.images, memory.labels, memory.logits) if array is not None)
        one = sum(array.nbytes for array in rows) / samples
        bits = samples * int(list_bits(chip, np.array(pixels), min(k_A, memory.bits)))
        cores = max(-(-bits // chip.core_memory), -(-samples // chip.axons_in))
        written = one * memory.kept_of(stream) / len(stream)
        return cls(samples, memory.bytes, memory.bits, recalled, recalled * one, written, cores)

    def to_json(self) -> dict[str, Any]:
        """All of it, for the report."""
        return {
            "where": WHERE,
            "samples": self.samples,
            "bytes": self.bytes,
            "bits_a_pixel": self.bits,
            "recalled": self.recalled,
            "bytes_read_a_new_sample": self.read,
            "bytes_written_a_new_sample": self.written,
            "cores_if_images_were_synapses": self.synapse_cores,
        }
