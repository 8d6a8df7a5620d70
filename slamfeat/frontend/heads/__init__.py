"""Learned heads on the frozen backbone; each is a module that knows tensors only."""
