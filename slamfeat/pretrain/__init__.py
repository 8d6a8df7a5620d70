"""Pretraining a backbone on images alone: a student that is to say what a slowly following teacher says (DINOv2)."""
