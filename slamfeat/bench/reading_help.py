"""How to read each task's figures: the paragraphs of the page."""

from __future__ import annotations

HOW_TO_READ = {
    "matching": (
        "Every frontend finds its keypoints in both images of a pair and matches them; one estimator, the same for "
        "all, makes a relative pose of the matches. The error of a pair is the larger of the errors of rotation and of "
        "translation direction, in degrees; AUC@5 is the area under its recall curve up to 5°, in percent, and a pair "
        "without a pose counts as wrong. A gap is the number of frames between the two images. Precision is the share "
        "of matches that the true epipolar geometry confirms. For planes: MMA@3 is the share of matches within 3 px of "
        "the true homography, and H AUC@5 the AUC of the error of the image's corners, in pixels. Over several groups "
        "of a data set, AUC and MMA are means weighted by pairs. The best of each group is bold."
    ),
    "vo": (
        "The same odometry runs with each frontend. ATE is the root mean square distance to the true positions after "
        "alignment (se3 where the scale is known, sim3 where it is not), in metres; RPE is the error from frame to "
        "frame; t_rel and r_rel are KITTI's errors over segments of 100 m to 800 m. Tracked is the share of frames "
        "that got a pose: an ATE over fewer frames is easier, so that the share is always given, and below 50 % no ATE "
        "is called the best. Where there are several trials, the median is shown with half of the range."
    ),
    "robustness": (
        "The odometry runs over frames that are degraded by measured amounts. A run's score is its tracked share times "
        "the part of the true motion it explains, 1 - ATE / ATE of a camera that stands still. The area under the "
        "scores, from undegraded to the hardest level, is 100 where nothing is lost and 0 where everything is. The "
        "last line is the mean over all degradations and sequences."
    ),
    "speed": (
        "Milliseconds of one extraction and of one match of two neighbouring frames, medians over rounds in which the "
        'frontends take turns; the total is one of each, which is what a frame costs. "× xfeat" is the total as a '
        "multiple of that peer's at the same size and threads. Peak is the memory of a process "
        "beyond what it had before the frontend was built."
    ),
}
