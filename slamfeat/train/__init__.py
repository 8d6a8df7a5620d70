"""Training heads on a frozen backbone: pairs of images with exact correspondences, losses, a resumable loop."""
