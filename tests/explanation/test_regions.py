"""Points and boxes of an image: how they are written, and which patches they select."""

import numpy as np
import pytest

from vitreous.callbacks import Callback
from vitreous.errors import InputError
from vitreous.explanation.explain import explain_batch
from vitreous.explanation.figures import query_mask
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.regions import PixelRegion, center_of_region, parse_query, validate_region
from vitreous.workflows.explain import explain


def test_points_and_boxes_are_parsed_in_the_order_x_y():
    assert parse_query("320,180") == (320, 180)
    assert parse_query("600,300,700,500") == (600, 300, 700, 500)
    assert center_of_region((600, 300, 700, 500)) == (650, 400) and center_of_region((3, 4)) == (3, 4)
    for wrong in ("3", "1,2,3", "1,2,3,x", "1,2,3,4,5"):
        with pytest.raises(InputError, match="is not a point on an image"):
            parse_query(wrong)
    with pytest.raises(InputError, match="is empty"):
        parse_query("700,300,600,500")


@pytest.mark.parametrize("wrong", ["3,4", (1, 2, 3), ("1", "2"), None, 7, (1, 2, None, 4), np.zeros((2, 2))])
def test_other_regions_raise(wrong):
    with pytest.raises(InputError, match="is not a point on an image: give"):
        validate_region(wrong)


def test_attention_from_a_box_is_the_mean_over_its_patches(small_classifier, noise_image):
    (box,) = explain_batch(small_classifier, [noise_image], "attention", query=(24, 0, 72, 48))  # a patch: 24 x 24
    each = [
        explain_batch(small_classifier, [noise_image], "attention", query=(x, y))[0] for y in (12, 36) for x in (36, 60)
    ]
    assert box.options.query == (0, 1, 2, 3) and "rows 0 to 1, columns 1 to 2" in box.caption()
    assert np.allclose(box.patch_map, np.mean([one.patch_map for one in each], axis=0), atol=1e-6)
    outlined = query_mask(box)
    assert outlined is not None and outlined[:48, 24:72].all() and outlined.sum() == 48 * 48


@pytest.mark.parametrize(
    ("method", "options"),
    [("attention", None), ("rollout", None), ("features", MethodOptions(view="similarity"))],
)
def test_a_box_of_one_patch_is_that_patch(small_classifier, noise_image, method, options):
    (box,) = explain_batch(small_classifier, [noise_image], method, options, query=(26, 25, 46, 47))
    (one,) = explain_batch(small_classifier, [noise_image], method, options, query=(36, 36))
    assert np.allclose(box.patch_map, one.patch_map, atol=1e-6)


def test_regions_outside_the_image_raise(small_classifier, noise_image):
    with pytest.raises(InputError, match="is not on the part of the image"):
        explain_batch(small_classifier, [noise_image], "attention", query=(200, 0, 300, 40))
    with pytest.raises(InputError, match=r"the point 99,4 \(x, y\) is not on the part of the image"):
        explain_batch(small_classifier, [noise_image], "attention", query=(99, 4))


def test_a_query_is_a_pixel_region_too(small_classifier, noise_image):
    box = (10.0, 20.0, 60.0, 40.0)
    assert validate_region(PixelRegion(*box)) == box
    one, other = (explain(small_classifier, noise_image, query=query) for query in (PixelRegion(*box), box))
    assert one.region == other.region and np.array_equal(one.patch_map, other.patch_map)


def test_large_coordinates_are_written_as_integers(small_classifier, noise_image):
    for query, words in (((1e6, 0), "the point 1000000,0 "), ((1e6, 0, 2e6, 9.5), "region 1000000,0 to 2000000,9.5 ")):
        with pytest.raises(InputError, match=words):
            explain(small_classifier, noise_image, query=query)


def test_one_image_is_counted_in_the_singular(small_classifier, noise_image):
    messages = []
    callback = Callback()
    callback.on_progress = lambda progress: messages.append(progress.message)
    explain(small_classifier, [noise_image], callback=callback)
    explain(small_classifier, [noise_image] * 2, callback=callback)
    assert messages == ["attention, 1 of 1 image", "attention, 2 of 2 images"]
