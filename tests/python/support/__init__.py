# SPDX-License-Identifier: MIT
"""Helpers shared by the Python tests."""
