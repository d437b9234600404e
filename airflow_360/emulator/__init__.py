"""An emulator of the upload API: a second, independent implementation of the contract.

It is separate from the rest of the package and imports none of it, so that a wrong reading of the contract
cannot be hidden in both the client and the server that tests it.
"""

from __future__ import annotations

from airflow_360.emulator.chaos import Chaos
from airflow_360.emulator.emulator import Emulator
from airflow_360.emulator.faults import Fault
from airflow_360.emulator.site import Exchange

__all__ = ["Chaos", "Emulator", "Exchange", "Fault"]
