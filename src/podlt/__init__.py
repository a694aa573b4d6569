"""Proof of Deep Learning Training: train on machines you do not control, and prove that the work was done."""
