# SPDX-License-Identifier: MIT
"""The rules of this repository, checked: run through tools/check.

A check is a function that takes the project's tree and yields one Finding for
each place that breaks its rule.
"""
