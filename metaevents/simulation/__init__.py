"""Simulated recordings: an event-camera pixel model and writers of files in the official forms.

They serve the quick start, the tests and the documentation. `write_nmnist` moves real handwritten
digits along the three saccades of N-MNIST. `write_asl_dvs` moves drawn hands. `write_n_omniglot`
draws made-up characters. The sources `NMNIST`, `ASLDVS` and `NOmniglot` read them like real files.
No result on simulated recordings says anything about the real datasets.

The same arguments give the same events on every platform, with every version of NumPy and with any
number of processes:

- random numbers come from `metaevents.rng`;
- time, space and light are whole numbers;
- floating point uses only + - * / and square roots, which IEEE 754 fixes to the last bit; sines and
  logarithms come from rounded tables.
"""

from metaevents.simulation.n_omniglot import write_n_omniglot
from metaevents.simulation.pixels import PixelModel, simulate
from metaevents.simulation.writers import simulate_recordings, write_asl_dvs, write_nmnist

__all__ = [
    "PixelModel",
    "simulate",
    "simulate_recordings",
    "write_asl_dvs",
    "write_n_omniglot",
    "write_nmnist",
]
