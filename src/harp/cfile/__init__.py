"""A network as one C99 file for a microcontroller: no allocation, no dependency, weights as gap-coded constants."""

from harp.cfile.writing import TOLERANCES, CFile, header_of, write_c

__all__ = ["TOLERANCES", "CFile", "header_of", "write_c"]
