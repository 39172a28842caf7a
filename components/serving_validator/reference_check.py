"""The check of what a model will carry of the test split, for whoever watches what comes in later."""

import os

from components.exported_model.manifest import read_manifest
from components.exported_model.reference import REFERENCE_FILE, read_profile
from components.image_example_gen import SUMMARY_FILE
from components.serving_validator.findings import Finding
from data.json_files import find_json

TEST_SPLIT = "test"


def check_reference(predictions_uri: str, examples_uri: str, saved_model_path: str) -> Finding:
    """Looks whether the profile of the test split is there, whole, and of these images and classes.

    Args:
        predictions_uri: of the Predictor.
        examples_uri: of the raw examples; their summary says how many images the split has.
        saved_model_path: of the export, with a manifest.
    """
    profile = read_profile(os.path.join(predictions_uri, REFERENCE_FILE))
    if profile is None:
        return Finding("reference", False, f"the predictions hold no {REFERENCE_FILE}, which the model is to carry")
    manifest = read_manifest(saved_model_path)
    problems = profile.problems(manifest.classes if manifest else ())
    summary = find_json(os.path.join(examples_uri, SUMMARY_FILE))
    images = sum(summary["counts"][TEST_SPLIT].values()) if summary else profile.images
    if profile.images != images:
        problems.append(f"{profile.images:,} images; the test split has {images:,}")
    if problems:
        return Finding("reference", False, f"{REFERENCE_FILE} has {problems[0]}")
    known = sum(1 for counts in profile.histograms.values() if any(counts))
    message = f"{profile.images:,} images of test, {len(profile.classes)} predicted classes, {known} histograms"
    return Finding("reference", True, message)
