"""Damaged images and long runs: does it stay up, and does it stay the same size?"""
